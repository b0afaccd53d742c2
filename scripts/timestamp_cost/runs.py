# SPDX-License-Identifier: GPL-2.0-only
"""The runs of the study: what each varies, and the command that makes it.

The DUT is alone on its wire and has one emulated CPU: on two cores that and the virtual NIC are in
nobody's way. The NIC counts what is on the wire; one run has a sink at the other end instead, which
counts what arrives.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path("results/study")
#: From a packet's end on the wire until its stamp can be read: ``--timestamp-delay``. Those above
#: 1 ms are no real NIC's: they are long beside what the emulator takes for anything.
LATENCIES_US = (0, 500, 1000, 3000, 10_000)
#: igc has so many registers for them (IGC_MAX_TX_TSTAMP_REGS, igc.h).
NUM_REGISTERS = 4
#: Of a paced run: far below what it can send.
PACED_NS = 500_000
# Nobody answers there: the wire ends at the virtual NIC's other side.
_NOWHERE = "--no-sink --to 198.18.0.2 --dst-mac 02:00:00:00:00:02"
_MANY, _FEW = "1:0,1:1,1:10,1:100", "1:1,1:10,1:100"


@dataclass(frozen=True, slots=True)
class StudyRun:
    """One run.

    :param series: the runs that differ in latency alone.
    :param latency_us: of a Tx timestamp.
    :param options: of ``xdptstamp mixed``.
    :param max_pending: a packet that is to be stamped waits while so many are; 0: it does not.
    :param num_descriptors: of the NIC's Tx ring, if it is not the driver's default.
    """

    series: str
    latency_us: int
    options: str
    max_pending: int = 0
    num_descriptors: int = 0

    @property
    def name(self) -> str:
        """Its folder's."""
        return f"{self.series}-{self.latency_us}us"

    @property
    def path(self) -> Path:
        """Where it is kept."""
        return FOLDER / self.name

    def words(self) -> list[str]:
        """The command, from the root of a clone."""
        has_sink = "--no-sink" not in self.options
        limit = f" --max-pending-timestamps {self.max_pending}" if self.max_pending else ""
        mixed = f"xdptstamp mixed {self.options}{limit} --label {self.name}"
        guest = f"xdptstamp lab guest --timestamp-delay {self.latency_us}us"
        words = [*guest.split(), *([] if has_sink else "--ports 1 --cpus 1".split()), "--"]
        if not self.num_descriptors:
            return [*words, *mixed.split()]
        return [*words, "sh", "-c", f"ethtool -G $NETIF tx {self.num_descriptors} && {mixed}"]


def study_runs() -> Iterator[StudyRun]:
    """All of them, in the order of measuring."""
    many = f"--ratio {_MANY} --repeats 8 --duration 500ms {_NOWHERE}"
    few = f"--ratio {_FEW} --repeats 8 --duration 500ms {_NOWHERE}"
    paced = f"--ratio {_FEW} --repeats 5 --duration 1s --rate {10**6 // PACED_NS}kpps {_NOWHERE}"
    for latency_us in LATENCIES_US:
        yield StudyRun("free", latency_us, many)
        yield StudyRun("waiting", latency_us, many, max_pending=NUM_REGISTERS)
        yield StudyRun("ring64", latency_us, few, num_descriptors=64)
        yield StudyRun("paced", latency_us, paced)
    yield StudyRun("sink", 1000, "--ratio 1:1,1:10 --repeats 5 --duration 500ms")
