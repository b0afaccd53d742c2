# SPDX-License-Identifier: GPL-2.0-only
"""What the study's runs measured, and beside it what the model predicts."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from model import Prediction, Queue, predict
from runs import NUM_REGISTERS, PACED_NS, StudyRun, study_runs

from xdptstamp.bandwidth import Rate, baseline_of, measured, merged_holds, rate, rates
from xdptstamp.rounds import Round, Setting
from xdptstamp.run import Run
from xdptstamp.sample import Cause
from xdptstamp.store import open_run
from xdptstamp.store.rounds import read_rounds
from xdptstamp.store.truth import read_truth

#: The run that has nothing but the stamp to wait for: no latency, one stamp pending at most.
_UNHINDERED = ("paced", 0, "1:100")


@dataclass(frozen=True, slots=True)
class Point:
    """One ratio of one run.

    :param hold_ns: from submit to completion, by position ("stamped": that asked for a stamp):
        median and 99th percentile.
    :param queue: what the model is given.
    :param predicted: of the baseline's rate, as a share, by the model.
    """

    run: StudyRun
    setting: Setting
    rate: Rate
    requested: int
    stamped: int
    hold_ns: Mapping[str, tuple[int, int]]
    queue: Queue
    model: Prediction
    predicted: float

    @property
    def stamped_share(self) -> float:
        """Of the packets that asked."""
        return self.stamped / self.requested if self.requested else 1.0

    @property
    def predicted_beside(self) -> int:
        """Where the model's bandwidth lies: -1 below the measured interval, 0 within, 1 above."""
        ratio = self.rate.ratio
        assert ratio is not None
        assert ratio.low is not None
        assert ratio.high is not None
        return (self.predicted > ratio.high) - (self.predicted < ratio.low)


@dataclass(frozen=True, slots=True)
class Truth:
    """What the virtual NIC's notes say of one run's stamps: ``worst_ns`` is the largest error."""

    num_stamps: int
    worst_ns: int


@dataclass(frozen=True, slots=True)
class Sums:
    """The books of a whole run, warm-up included.

    :param counted: what the driver's ``tx_hwtstamp_skipped`` gained.
    """

    sent: int
    arrived: int
    disordered: int
    skipped: int
    counted: int


@dataclass(frozen=True, slots=True)
class _Opened:
    # A run and its rounds, read once.
    study_run: StudyRun
    run: Run
    settings: Sequence[Setting]
    rounds: Sequence[Round]

    @property
    def plain(self) -> int:
        # Index of the plain packets alone; all are of one size.
        index = baseline_of(self.settings, 0)
        assert index is not None
        return index

    @property
    def plain_pps(self) -> float:
        return rate(self.settings, self.rounds, self.plain).pps


def _open(each: StudyRun) -> _Opened:
    run = open_run(each.path)
    return _Opened(each, run, *read_rounds(run))


class Study:
    """All that was measured.

    :ivar handling_ns: from a packet's submission to its completion where its stamp takes no time:
        what the driver, the kernel and the emulator add to any latency. ``plain_ns``: of a plain
        packet.
    """

    def __init__(self) -> None:
        self._opened = {each.name: _open(each) for each in study_runs()}
        series, latency_us, ratio = _UNHINDERED
        lone = self._opened[f"{series}-{latency_us}us"]
        self.plain_ns = merged_holds(lone.rounds, lone.plain)["others"].quantile(0.5)
        (index,) = [i for i, setting in enumerate(lone.settings) if setting.ratio == ratio]
        self.handling_ns = merged_holds(lone.rounds, index)["stamped"].quantile(0.5)
        pps = [opened.plain_pps for opened in self._opened.values()]
        #: What a plain packet takes, the median of the runs that send as fast as it goes.
        self.packet_ns = 1e9 / statistics.median(each for each in pps if each > 2e9 / PACED_NS)
        self.points = [p for opened in self._opened.values() for p in self._of(opened)]

    def run(self, name: str) -> Run:
        """One of them."""
        return self._opened[name].run

    def by_ratio(self, series: str) -> dict[str, list[Point]]:
        """The points of a series by ratio, each by latency."""
        found: dict[str, list[Point]] = {}
        for point in self.points:
            if point.run.series == series:
                found.setdefault(point.setting.ratio, []).append(point)
        return found

    def point(self, series: str, latency_us: int, ratio: str) -> Point:
        """One of them."""
        own = self.by_ratio(series)[ratio]
        (found,) = [point for point in own if point.run.latency_us == latency_us]
        return found

    def truths(self) -> Iterator[Truth]:
        """What the virtual NIC noted, run by run."""
        for opened in self._opened.values():
            truth = read_truth(opened.run.path)
            assert truth is not None
            sent = truth["tx"]
            worst_ns = max(abs(sent["min_error_ns"]), abs(sent["max_error_ns"]))
            yield Truth(sent["num_stamps"], worst_ns)

    def sums(self, name: str) -> Sums:
        """The books of one run."""
        rounds = self._opened[name].rounds
        counter = self.run(name).info.counters.get("tx_hwtstamp_skipped", {"before": 0, "after": 0})
        return Sums(
            sent=sum(each.sent for each in rounds),
            arrived=sum(each.arrived for each in rounds),
            disordered=sum(each.reordered + each.duplicates + each.corrupted for each in rounds),
            skipped=sum(each.causes[Cause.SKIPPED.label] for each in rounds),
            counted=counter["after"] - counter["before"],
        )

    def _of(self, opened: _Opened) -> Iterator[Point]:
        each, settings, rounds = opened.study_run, opened.settings, opened.rounds
        own = {found.setting: found for found in rates(settings, rounds)}
        is_paced = each.series == "paced"
        queue = Queue(
            packet_ns=0 if is_paced else 1e9 / opened.plain_pps,
            latency_ns=each.latency_us * 1000 + self.handling_ns,
            in_flight=opened.run.info.obtained["in_flight_capacity"],
            num_registers=NUM_REGISTERS,
            max_pending=each.max_pending,
            interval_ns=PACED_NS if is_paced else 0,
        )
        for index, setting in enumerate(settings):
            if setting.is_baseline:
                continue
            mine = measured(rounds, index)
            holds = merged_holds(rounds, index)
            model = predict(queue, setting.stamped, setting.plain)
            yield Point(
                run=each,
                setting=setting,
                rate=own[index],
                requested=sum(one.requested for one in mine),
                stamped=sum(one.stamped for one in mine),
                hold_ns={at: (h.quantile(0.5), h.quantile(0.99)) for at, h in holds.items()},
                queue=queue,
                model=model,
                predicted=model.packets_per_ns * (PACED_NS if is_paced else queue.packet_ns),
            )
