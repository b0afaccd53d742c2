# SPDX-License-Identifier: GPL-2.0-only
"""Every figure of a run that has a meaning in a comparison, with what it takes to say how sure it
is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from xdptstamp.bandwidth import baseline_of, measured
from xdptstamp.checks.fail_if import BOOKS
from xdptstamp.compare.keys import SETTING_KEYS, setting_name
from xdptstamp.compare.pieces import Rounds, read_pieces
from xdptstamp.compare.resample import Distribution
from xdptstamp.contrast import Figure, Word
from xdptstamp.errors import XdptstampError
from xdptstamp.histogram import Histogram
from xdptstamp.report import Recomputed
from xdptstamp.rounds import POSITIONS, Round
from xdptstamp.runinfo import RunInfo
from xdptstamp.sample import Cause
from xdptstamp.stats import Summary
from xdptstamp.text.intervals import QUANTILES, refusal

_LESS_IS_SLOWER = (Word.SLOWER, Word.FASTER)
_LESS_OR_MORE = (Word.LOWER, Word.HIGHER)
_STATS = (*QUANTILES, ("max", 1.0))
# What a user of ping-pong and of ping asks for in the first place.
_HEADLINES = {"rx_hw_to_tx_hw", "rx_xdp_to_tx_sw", "tx_app_to_rx_app"}
_HEADLINE_STATS = {"p50", "p99"}
_NO_SHARE = ("bandwidth", "recorder_overruns")


@dataclass(frozen=True, slots=True)
class Values:
    """One value a round.

    :param weights: by round, where the run's value is a ratio of sums, and not the rounds' mean.
    """

    by_round: dict[int, float]
    weights: dict[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Counts:
    """So many of so many.

    :param parts: (how many, of how many) of each round or piece in order.
    :param num_rounds: rounds that these are; 0: they are no rounds.
    """

    parts: Sequence[tuple[int, int]]
    num_rounds: int = 0


@dataclass(frozen=True, slots=True)
class Quantile:
    """A quantile of a distribution; 1: the maximum.

    :param uncertainty_ns: how wrong two clocks' offset may be.
    :param finest_ns: nothing finer is a measurement.
    """

    distribution: Distribution
    share: float
    uncertainty_ns: int = 0
    finest_ns: int = 0


Data = Values | Counts | Quantile


def figures_of(found: Recomputed, by: Sequence[str], *, needs_pieces: bool) -> dict[Figure, Data]:
    """All figures of a run.

    :param by: what is compared: it does not name a setting.
    :param needs_pieces: the samples are wanted in pieces; else all together, where that will do.
    :raises RunFileError: If they cannot be read.
    """
    info = found.run.info
    if info.kind == "mixed":
        return dict(_mixed(found, by))
    if needs_pieces and found.has_samples:
        rounds = read_pieces(found.run).get(0, [])
    else:
        rounds = [[found.summary]] if found.summary.num_samples else []
    # A ping asks for no stamp that could be missing.
    stamps = [] if info.kind == "ping" else _stamps("", rounds)
    return dict([*_intervals("", info, rounds), *stamps, *_books(info)])


def _intervals(setting: str, info: RunInfo, rounds: Rounds) -> Iterator[tuple[Figure, Quantile]]:
    names = dict.fromkeys(name for each in rounds for piece in each for name in piece.intervals)
    for full in names:
        if refusal(info, full) is not None:
            continue
        name = full.removesuffix("_ns")
        pieces = [[p.intervals[full] for p in each if full in p.intervals] for each in rounds]
        distribution = Distribution([each for each in pieces if each])
        sure = _merged(p.uncertainties.get(full) for each in rounds for p in each)
        uncertainty_ns = sure.quantile(0.5) if sure.count else 0
        for figure, share in _quantiles(setting, name, is_headline=name in _HEADLINES):
            yield figure, Quantile(distribution, share, uncertainty_ns)


def _quantiles(
    setting: str, subject: str, *, is_headline: bool = False
) -> Iterator[tuple[Figure, float]]:
    for stat, share in _STATS:
        is_first = is_headline and stat in _HEADLINE_STATS
        yield Figure(setting, subject, stat, "ns", is_headline=is_first), share


def _share_figure(setting: str, subject: str) -> Figure:
    return Figure(setting, subject, "", "share", "points", _LESS_OR_MORE)


def _stamps(setting: str, rounds: Rounds) -> Iterator[tuple[Figure, Counts]]:
    pieces = [piece for each in rounds for piece in each]
    if not any(piece.num_stamped + piece.num_missing for piece in pieces):
        return
    num_rounds = len(rounds) if len(rounds) > 1 else 0

    def counts(count: Callable[[Summary], int]) -> Counts:
        groups = rounds if num_rounds else [[piece] for piece in pieces]
        parts = [(sum(map(count, g)), sum(map(_requested, g))) for g in groups]
        return Counts([part for part in parts if part[1]], num_rounds)

    yield _share_figure(setting, "missing"), counts(lambda piece: piece.num_missing)
    for cause in list(Cause)[1:]:
        figure = _share_figure(setting, cause.label)
        yield figure, counts(lambda piece, cause=cause: piece.causes.get(cause, 0))  # type: ignore[misc]


def _requested(piece: Summary) -> int:
    return piece.num_stamped + piece.num_missing


def _books(info: RunInfo) -> Iterator[tuple[Figure, Counts]]:
    whole, names = BOOKS[info.kind]
    total = info.counts.get(whole)
    if not isinstance(total, int) or total <= 0:
        return
    for name in names:
        count = info.counts.get(name)
        if name not in _NO_SHARE and isinstance(count, int):
            yield _share_figure("", name), Counts([(count, total)])


def _mixed(found: Recomputed, by: Sequence[str]) -> Iterator[tuple[Figure, Data]]:
    info = found.run.info
    # In copy mode the hold time says it all, as in `show`.
    has_intervals = info.timestamps == "hardware" and found.summary.num_samples
    pieces = read_pieces(found.run) if has_intervals else {}
    names: set[str] = set()
    for index, setting in enumerate(found.settings):
        own = measured(found.rounds, index)
        if not own:
            continue
        name = setting_name(setting, by)
        if name in names:
            several = " and ".join(key for key in SETTING_KEYS if key in by)
            raise XdptstampError(f"{found.run.path}: --by {several}, and it has several itself")
        names.add(name)
        is_by_size = "size" in by
        yield from _rates(found, index, name, 0 if is_by_size else setting.wire_bits)
        if is_by_size:
            figure = Figure(name, "bits", "", "bps", words=_LESS_IS_SLOWER)
            yield figure, Values({r.round: r.pps * setting.wire_bits for r in own})
        yield from _round_counts(name, own)
        yield from _holds(name, own)
        yield from _intervals(name, info, pieces.get(index, []))


def _rates(
    found: Recomputed, index: int, name: str, wire_bits: int
) -> Iterator[tuple[Figure, Values]]:
    own = measured(found.rounds, index)
    bandwidth = Figure(name, "bandwidth", "", "pps", "relative", _LESS_IS_SLOWER, True, wire_bits)
    yield bandwidth, Values({r.round: r.pps for r in own})
    baseline = baseline_of(found.settings, index)
    if baseline is not None and baseline != index:
        whole = {r.round: r.pps for r in measured(found.rounds, baseline) if r.pps > 0}
        shares = {r.round: r.pps / whole[r.round] for r in own if r.round in whole}
        if shares:
            yield Figure(name, "vs_baseline", "", "", words=_LESS_OR_MORE), Values(shares)
    sent = [r for r in own if r.sent]
    for subject, attribute in (("cpu_user", "user_ns"), ("cpu_system", "system_ns")):
        values = {r.round: getattr(r, attribute) / r.sent for r in sent}
        if values:
            figure = Figure(name, subject, "", "ns", words=_LESS_OR_MORE)
            yield figure, Values(values, {r.round: r.sent for r in sent})


def _holds(name: str, own: Sequence[Round]) -> Iterator[tuple[Figure, Quantile]]:
    reap = _merged(r.reap for r in own)
    finest_ns = reap.quantile(0.5) if reap.count else 0
    for position in POSITIONS:
        pieces = [[r.hold[position]] for r in own if position in r.hold and r.hold[position].count]
        if pieces:
            for figure, share in _quantiles(name, f"hold_{position}"):
                yield figure, Quantile(Distribution(pieces), share, 0, finest_ns)
    latencies = [(r.second_app or {}).get("latency") for r in own]
    apps = [[each] for each in latencies if isinstance(each, Histogram) and each.count]
    if apps:
        for figure, share in _quantiles(name, "second_app"):
            yield figure, Quantile(Distribution(apps), share)


def _round_counts(name: str, own: Sequence[Round]) -> Iterator[tuple[Figure, Counts]]:
    def counts(count: Callable[[Round], int], whole: Callable[[Round], int]) -> Counts:
        return Counts([(count(r), whole(r)) for r in own if whole(r) > 0], len(own))

    if any(r.requested for r in own):
        yield (
            _share_figure(name, "missing"),
            counts(lambda r: sum(r.causes.values()), lambda r: r.requested),
        )
        for cause in list(Cause)[1:]:
            label = cause.label
            yield (
                _share_figure(name, label),
                counts(lambda r, label=label: r.causes.get(label, 0), lambda r: r.requested),  # type: ignore[misc]
            )
    books = [("lost", "lost"), ("dropped_by_kernel", "dropped_by_kernel")]
    if all(r.received is not None for r in own):
        same = ("reordered", "duplicates", "corrupted", "pattern_errors")
        books += [("not_received", "missing"), *((book, book) for book in same)]
    for subject, attribute in books:
        yield (
            _share_figure(name, subject),
            counts(lambda r, a=attribute: getattr(r, a), lambda r: r.sent),  # type: ignore[misc]
        )
    if any(r.throttled_ns for r in own):
        yield (
            _share_figure(name, "throttled"),
            counts(lambda r: r.throttled_ns, lambda r: r.duration_ns),
        )


def _merged(histograms: Iterable[Histogram | None]) -> Histogram:
    merged = Histogram()
    for each in histograms:
        if each is not None:
            merged.merge(each)
    return merged
