# SPDX-License-Identifier: GPL-2.0-only
"""What an interface is set to, by the system's own commands: taken before and after, compared.

``run(argv)`` runs a command where the interface is (a namespace, a guest) and returns its stdout.
"""

import difflib
import time

LIMIT_S = 30

# Asked of the driver itself: ethtool shows what it offers, not what is set.
_HWTSTAMP = """
import array, fcntl, socket, struct, sys
data = array.array("B", bytes(12))
request = struct.pack("16sQ16x", sys.argv[1].encode(), data.buffer_info()[0])
try:
    fcntl.ioctl(socket.socket(socket.AF_INET, socket.SOCK_DGRAM), 0x89B1, request)
    print("flags %d tx_type %d rx_filter %d" % struct.unpack("3i", data))
except OSError as error:
    print(error.strerror)
"""

#: What is in a snapshot, and the command that tells it; ``$1`` is the interface.
COMMANDS = {
    "hwtstamp": f"python3 -I -S -c '{_HWTSTAMP}' $1",
    "link and XDP programs": "ip -d -j link show dev $1",
    "addresses": "ip -j addr show dev $1",
    "routes": "ip -j route show table all dev $1; ip -6 -j route show table all dev $1",
    "neighbours": "ip -j neigh show dev $1 nud permanent",
    "qdiscs": "tc -j qdisc show dev $1",
    "filters of tc": "tc -j filter show dev $1 ingress",
    "ntuple filters": "ethtool -n $1",
    "flow hash": "ethtool -n $1 rx-flow-hash udp4",
    "flow hash indirection": "ethtool -x $1",
    "channels": "ethtool -l $1",
    "rings": "ethtool -g $1",
    "coalescing": "ethtool -c $1",
    "features": "ethtool -k $1",
    "pause": "ethtool -a $1",
    "speed": "ethtool $1",
    "private flags": "ethtool --show-priv-flags $1",
    "bpf": "if command -v bpftool >/dev/null; then bpftool net show dev $1; fi; ls /sys/fs/bpf",
    # How many there are in this namespace, of whoever.
    "AF_XDP sockets": r"sed -n 's/^XDP *[0-9]* *\([0-9]*\).*/\1/p' /proc/net/protocols",
}
_MARK = "\x1e"
# A driver that was just reset has no carrier for a while.
_AWAIT_CARRIER = """
left=100
until ip link show dev $1 | grep -q LOWER_UP || [ $left = 0 ]; do
    left=$((left - 1))
    sleep 0.1
done
"""
# What a command complains of is what it tells: a veth has no rings.
_SCRIPT = _AWAIT_CARRIER + "\n".join(
    f"printf '{_MARK}'; {{ {line}; }} 2>&1" for line in COMMANDS.values()
)


def snapshot(run, ifname):
    """Text by name of what it is; see :data:`COMMANDS`. A carrier is waited for, 10 s at most."""
    texts = run(["sh", "-c", _SCRIPT, "sh", ifname]).split(_MARK)[1:]
    return dict(zip(COMMANDS, texts, strict=True))


def changes(before, after):
    """The lines of each text that are not as before; empty: all are."""
    found = {}
    for name, text in before.items():
        lines = difflib.unified_diff(text.splitlines(), after[name].splitlines(), lineterm="", n=0)
        if diff := [line for line in lines if not line.startswith(("---", "+++", "@@"))]:
            found[name] = diff
    return found


def assert_as_before(run, ifname, before, limit_s=LIMIT_S):
    """Everything is as it was, or is soon: the kernel ends some things behind a process's back."""
    deadline = time.monotonic() + limit_s
    while differing := changes(before, snapshot(run, ifname)):
        assert time.monotonic() < deadline, differing
        time.sleep(0.1)
