# SPDX-License-Identifier: GPL-2.0-only
"""What is doubtful about a ``mixed`` run without anybody asking."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence

from xdptstamp.bandwidth import (
    Rate,
    baseline_of,
    drifts,
    measured,
    rates,
    sources,
    sum_counts,
)
from xdptstamp.checks.machine_doubts import pause_warning
from xdptstamp.checks.mixed_books import book_warnings
from xdptstamp.rounds import SOURCES, Round, Setting
from xdptstamp.runinfo import RunInfo, Warning
from xdptstamp.sample import Cause
from xdptstamp.text.lines import percent
from xdptstamp.text.mixed_tables import setting_label

#: Student's t for a 95 % interval is 12.7 for two rounds, 2.8 for five, 2.2 for ten, 2.0 for ever.
MIN_ROUNDS, MIN_ROUNDS_FOR_INTERVAL = 5, 2
#: Of a baseline over the run. Pairs cancel most of it, the rates themselves do not.
MAX_DRIFT_PERCENT = 5
#: More than this and what did not arrive is a good part of what a timestamp could cost.
MAX_LOSS_PER_MILLE = 1
#: A sender that computes for a quarter of its CPU time is itself a good part of the limit; the
#: cost of timestamps to kernel and NIC then shows smaller than it is.
MAX_USER_PERCENT = 25
#: Of its nominal speed. A link that is not full hides no cost, but was not the limit either.
MIN_LINK_PERCENT = 95
#: Of the packets a second that were asked for. A round lasts until the last completion, which is
#: later than the last packet.
MIN_RATE_PERCENT = 95

# As the run info has it: "100kpps", "1.5Gbit".
_RATE = re.compile(r"([0-9]+(?:\.[0-9]+)?)([kMG]?)(pps|bit)", re.ASCII)
_PREFIXES = {"": 1, "k": 1_000, "M": 1_000_000, "G": 1_000_000_000}

_Settings = Sequence[Setting]
_Rounds = Sequence[Round]
_NUM_NAMED = 4


def mixed_warnings(info: RunInfo, settings: _Settings, rounds: _Rounds) -> list[Warning]:
    """Everything doubtful that the rounds show, and that ``info.warnings`` lacks."""
    known = {warning.key for warning in info.warnings}
    found = [warning for check in _CHECKS for warning in check(info, settings, rounds)]
    found += book_warnings(rounds)
    return [warning for warning in found if warning.key not in known]


def _name(setting: Setting) -> str:
    return f"{setting.size_bytes} {setting_label(setting)}"


# "a, b, c, d and 3 more"
def _named(words: Iterable[str]) -> str:
    every = list(words)
    more = len(every) - _NUM_NAMED
    return ", ".join(every[:_NUM_NAMED]) + (f" and {more} more" if more > 0 else "")


def _is_paced(info: RunInfo) -> bool:
    return any(key.startswith("rate") and value for key, value in info.asked.items())


def _rates(info: RunInfo, settings: _Settings, rounds: _Rounds) -> list[Rate]:
    return rates(settings, rounds, info.nic.get("speed_mbps"))


def _check_measured(info: RunInfo, settings: _Settings, rounds: _Rounds) -> Iterator[Warning]:
    if not measured(rounds):
        yield Warning(
            "no-rounds",
            "no round was measured",
            "0 rounds",
            "at least one of each setting",
            "let the run last longer, and do not interrupt it",
            is_untrusted=True,
        )
        return
    lone = [s for i, s in enumerate(settings) if not _has_baseline(settings, rounds, i)]
    if lone:
        yield Warning(
            "no-baseline",
            "settings without a measured baseline of their size: their cost is not known",
            _named(_name(setting) for setting in lone),
            "a round of 0:1 for each size",
            "let the run last until every setting had its turn",
        )


def _has_baseline(settings: _Settings, rounds: _Rounds, index: int) -> bool:
    baseline = baseline_of(settings, index)
    return baseline is not None and bool(measured(rounds, baseline))


def _check_num_rounds(info: RunInfo, settings: _Settings, rounds: _Rounds) -> Iterator[Warning]:
    ratios = [rate.ratio for rate in _rates(info, settings, rounds) if rate.ratio]
    fewest = min((ratio.num_pairs for ratio in ratios), default=MIN_ROUNDS)
    if fewest < MIN_ROUNDS:
        is_none = fewest < MIN_ROUNDS_FOR_INTERVAL
        yield Warning(
            "rounds-few",
            "too few rounds for an interval: one ratio alone says nothing of its own error"
            if is_none
            else "too few rounds: the intervals are wide",
            f"{fewest} paired rounds",
            f"{MIN_ROUNDS}",
            f"use --repeats {2 * MIN_ROUNDS}",
        )


def _check_drift(info: RunInfo, settings: _Settings, rounds: _Rounds) -> Iterator[Warning]:
    moved = [
        f"{_name(settings[drift.setting])} {drift.change * 100:+.1f} % "
        f"[{drift.low * 100:+.1f}, {drift.high * 100:+.1f}]"
        for drift in drifts(settings, rounds)
        if drift.is_certain and abs(drift.change) * 100 > MAX_DRIFT_PERCENT
    ]
    if moved:
        yield Warning(
            "baseline-drift",
            "the baseline changed from the first round to the last: quote ratios, not rates",
            _named(moved),
            f"{MAX_DRIFT_PERCENT} %",
            "look at CPU frequency and temperature, and at what else runs there",
        )


def _check_arrival(info: RunInfo, settings: _Settings, rounds: _Rounds) -> Iterator[Warning]:
    own = measured(rounds)
    silent = [each for each in own if not each.arrived or not each.duration_ns]
    names = [_name(s) for i, s in enumerate(settings) if _is_silent(measured(own, i))]
    if names:
        yield Warning(
            "nothing-arrived",
            "nothing arrived: that is not a bandwidth",
            _named(names),
            "every setting arrives",
            "look at the link, the partner and the next hop's address",
            is_untrusted=True,
        )
    elif silent:
        yield Warning(
            "rounds-without-arrival",
            "rounds in which nothing arrived, between others in which it did",
            _named(f"round {each.round}, {_name(settings[each.setting])}" for each in silent),
            "none",
            "look whether the link or the partner went away meanwhile",
            is_untrusted=True,
        )


def _is_silent(own: _Rounds) -> bool:
    return bool(own) and not any(each.arrived and each.duration_ns for each in own)


def _check_loss(info: RunInfo, settings: _Settings, rounds: _Rounds) -> Iterator[Warning]:
    own = [each for each in measured(rounds) if each.received is not None]
    missing, sent = sum(each.missing for each in own), sum(each.sent for each in own)
    if missing * 1000 > MAX_LOSS_PER_MILLE * sent:
        where = sum_counts(each.located for each in own)
        located = _named(f"{name} {count}" for name, count in where.items() if count)
        yield Warning(
            "loss-at-partner",
            "packets that were sent did not arrive: the partner may be the limit, not the sender",
            f"{percent(missing, sent)} of {sent} ({located or 'in no counter'})",
            f"{MAX_LOSS_PER_MILLE / 10:g} %",
            "give the sink a CPU of its own, or send slower with --rate",
        )


def _check_drops(info: RunInfo, settings: _Settings, rounds: _Rounds) -> Iterator[Warning]:
    dropped = sum(each.dropped_by_kernel for each in measured(rounds))
    if dropped:
        yield Warning(
            "dropped-by-kernel",
            "the kernel dropped packets that it had taken: they count as sent, not as arrived",
            str(dropped),
            "0",
            "look whether the link was up, and the queue of the interface long enough",
        )


def _check_source(info: RunInfo, settings: _Settings, rounds: _Rounds) -> Iterator[Warning]:
    found = sources(rounds)
    if len(found) > 1:
        yield Warning(
            "sources-differ",
            "not all rounds had their packets counted in the same place",
            ", ".join(found),
            "one source",
            "look why the sink, or the counter, was not there throughout",
        )
    if found and found != [SOURCES[0]]:
        yield Warning(
            "no-sink",
            "nobody counted what arrived: this is what left",
            ", ".join(found),
            SOURCES[0],
            "start xdptstamp sink on the partner, or name the partner with REMOTE_TYPE",
        )


def _check_pause(info: RunInfo, settings: _Settings, rounds: _Rounds) -> Iterator[Warning]:
    yield from pause_warning(sum_counts(each.pause_frames for each in measured(rounds)))


def _check_generator(info: RunInfo, settings: _Settings, rounds: _Rounds) -> Iterator[Warning]:
    if _is_paced(info):
        return
    busy = [
        f"{_name(settings[rate.setting])} {share:.0f} %"
        for rate in _rates(info, settings, rounds)
        if settings[rate.setting].is_baseline
        and not _is_filled(rate)
        and (share := _user_percent(rate)) > MAX_USER_PERCENT
    ]
    if busy:
        yield Warning(
            "generator-limited",
            "the sender computes for much of its CPU time: it may be the limit, not the kernel",
            f"user share of the baseline: {_named(busy)}",
            f"{MAX_USER_PERCENT} %",
            "give it a CPU of its own with --cpu, and a larger --batch",
        )


def _check_rate(info: RunInfo, settings: _Settings, rounds: _Rounds) -> Iterator[Warning]:
    slow = []
    for rate in _rates(info, settings, rounds):
        asked = _asked_pps(info, settings[rate.setting])
        own = measured(rounds, rate.setting)
        duration_ns = sum(each.duration_ns for each in own)
        # What waits for pending stamps is told as throttled.
        if not asked or not duration_ns or rate.throttled_share:
            continue
        sent = sum(each.sent for each in own) * 1e9 / duration_ns
        if sent * 100 < MIN_RATE_PERCENT * asked:
            slow.append(f"{_name(settings[rate.setting])} {100 * sent / asked:.1f} %")
    if slow:
        yield Warning(
            "rate-missed",
            "packets were sent more slowly than --rate asks: the sender is the limit",
            f"of {info.asked['rate']}: {_named(slow)}",
            f"{MIN_RATE_PERCENT} %",
            "give it a CPU of its own with --cpu, a larger --batch, or ask less",
        )


def _asked_pps(info: RunInfo, setting: Setting) -> float | None:
    match = _RATE.fullmatch(str(info.asked.get("rate") or ""))
    if match is None:
        return None
    value = float(match[1]) * _PREFIXES[match[2]]
    return value if match[3] == "pps" else value / setting.wire_bits


def _user_percent(rate: Rate) -> float:
    user, system = rate.user_ns or 0.0, rate.system_ns or 0.0
    return 100 * user / (user + system) if user + system else 0.0


def _is_filled(rate: Rate) -> bool:
    return rate.link_share is not None and rate.link_share * 100 >= MIN_LINK_PERCENT


def _check_link(info: RunInfo, settings: _Settings, rounds: _Rounds) -> Iterator[Warning]:
    idle = [r for r in _rates(info, settings, rounds) if r.link_share is not None]
    idle = [] if _is_paced(info) else [rate for rate in idle if not _is_filled(rate)]
    # The speed of a veth is nominal: none ever fills it, as the header says.
    if not idle or info.nic.get("driver") == "veth":
        return
    lowest = min(idle, key=lambda rate: rate.link_share or 0.0)
    yield Warning(
        "link-not-filled",
        "settings that never filled the link: something else was their limit",
        f"{len(idle)} of {len(settings)}, {_name(settings[lowest.setting])} at "
        f"{(lowest.link_share or 0) * 100:.1f} %",
        f"{MIN_LINK_PERCENT} % of {info.nic.get('speed_mbps')} Mbit/s",
        "compare ratios, not shares of the link; repeat it with a larger --size",
    )


def _check_resets(info: RunInfo, settings: _Settings, rounds: _Rounds) -> Iterator[Warning]:
    count = info.counts.get("link_resets", 0)
    if count:
        yield Warning(
            "link-lost",
            "the adapter was reset, or lost its link: what was sent meanwhile is no bandwidth",
            str(count),
            "0",
            "look at the cable, the partner and the kernel log, and measure again",
            is_untrusted=True,
        )


def _check_stamps(info: RunInfo, settings: _Settings, rounds: _Rounds) -> Iterator[Warning]:
    own = measured(rounds)
    books = [each.causes for each in own] + [(e.second_app or {}).get("causes") or {} for e in own]
    causes = sum_counts(books)
    invalid = causes.get(Cause.INVALID.label, 0)
    if invalid:
        yield Warning(
            "stamps-invalid",
            "stamps that cannot be true, or of packets the kernel dropped",
            str(invalid),
            "0",
            "look whether the link partner was up and the MTU kept",
            is_untrusted=True,
        )
    timed_out = causes.get(Cause.TIMED_OUT.label, 0)
    if timed_out:
        yield Warning(
            "stamps-timed-out",
            "stamps the driver waited for in vain, holding its queue meanwhile",
            str(timed_out),
            "0",
            "look at the kernel log and at the driver's known faults",
        )


_CHECKS: tuple[Callable[[RunInfo, _Settings, _Rounds], Iterator[Warning]], ...] = (
    _check_measured,
    _check_arrival,
    _check_drops,
    _check_num_rounds,
    _check_drift,
    _check_loss,
    _check_source,
    _check_pause,
    _check_generator,
    _check_rate,
    _check_link,
    _check_resets,
    _check_stamps,
)
