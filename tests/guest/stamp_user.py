# SPDX-License-Identifier: GPL-2.0-only
"""Another program that has the NIC stamp its packets: a UDP socket with SO_TIMESTAMPING.

``stamp_user.py HOST``: sends bursts to the discard port for some seconds. For ``python -I -S``.

It must end before an XDP program comes or goes: igc cleans its rings then while the stack still
uses them (igc_xdp_set_prog, igc_xdp.c of Linux 7.3, calls napi_disable after igc_disable_rx_ring
and stops no Tx queue), and is left with a stopped queue, or loops in igc_clean_tx_ring for ever.
"""

import socket
import sys
import time

SO_TIMESTAMPING = 37
TX_HARDWARE, RAW_HARDWARE, OPT_TSONLY = 1 << 0, 1 << 6, 1 << 11
# More than there are stamp registers.
BURST = 16
NUM_BURSTS = 150
PAUSE_S = 0.02


def main(host):
    """Send, and take what comes back on the error queue."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        flags = TX_HARDWARE | RAW_HARDWARE | OPT_TSONLY
        sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPING, flags)
        for _ in range(NUM_BURSTS):
            for _ in range(BURST):
                sock.sendto(b"", (host, 9))
            _drain(sock)
            time.sleep(PAUSE_S)


def _drain(sock):
    while True:
        try:
            sock.recvmsg(0, 256, socket.MSG_ERRQUEUE | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return


if __name__ == "__main__":
    main(sys.argv[1])
