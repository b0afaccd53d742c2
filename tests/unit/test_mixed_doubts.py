# SPDX-License-Identifier: GPL-2.0-only
"""The warnings of a ``mixed`` run: each provoked, and each silent without its reason."""

import pytest

from tests.unit import mixed_kit as kit
from xdptstamp.bandwidth import totals
from xdptstamp.checks import mixed_warnings, parse_fail_if, run_warnings
from xdptstamp.checks.mixed_books import open_books
from xdptstamp.rounds import Setting
from xdptstamp.runinfo import Warning
from xdptstamp.sample import Cause


def full_link():
    """A run that leaves no doubt: a full gigabit link, all of it at the sink."""
    settings = [kit.BASELINE, kit.ONE_TEN]
    rounds = [
        kit.round_of(number, index, 1_480_000, 2 * number + index, requested=index * 134_545)
        for number in range(10)
        for index in range(2)
    ]
    nic = {"driver": "igc", "kind": "hardware", "speed_mbps": 1000}
    return kit.info_of(nic=nic), settings, rounds


def found(info, settings, rounds):
    return {warning.key: warning for warning in mixed_warnings(info, settings, rounds)}


def only(info, settings, rounds):
    (warning,) = mixed_warnings(info, settings, rounds)
    return warning


def test_a_good_run_leaves_no_doubt():
    assert found(*full_link()) == {}


def test_what_is_known_is_not_said_again():
    info, settings, rounds = full_link()
    rounds[0].pause_frames = {"rx_pause": 1}
    info.warnings.append(Warning("pause-frames", "", "", "", ""))
    assert found(info, settings, rounds) == {}


def test_warmup_is_not_judged_but_for_its_books():
    info, settings, rounds = full_link()
    rounds[0].is_warmup = True
    rounds[0].pause_frames = {"rx_pause": 1}
    assert found(info, settings, rounds) == {}
    rounds[0].sent += 1
    assert list(found(info, settings, rounds)) == ["books-unbalanced"]


@pytest.mark.parametrize(
    ("num_rounds", "message", "value"),
    [
        (1, "too few rounds for an interval: one ratio alone", "1 paired rounds"),
        (2, "too few rounds: the intervals are wide", "2 paired rounds"),
        (4, "too few rounds: the intervals are wide", "4 paired rounds"),
    ],
)
def test_too_few_rounds(num_rounds, message, value):
    info, settings, rounds = full_link()
    warning = only(info, settings, rounds[: 2 * num_rounds])
    assert warning.key == "rounds-few" and not warning.is_untrusted
    assert warning.message.startswith(message)
    assert (warning.value, warning.limit, warning.advice) == (value, "5", "use --repeats 10")


def test_five_rounds_are_enough():
    info, settings, rounds = full_link()
    assert found(info, settings, rounds[:10]) == {}


def test_no_round_at_all():
    info, settings, _ = full_link()
    warning = only(info, settings, [])
    assert warning.key == "no-rounds" and warning.is_untrusted
    assert warning.message == "no round was measured"


def test_a_setting_without_its_baseline():
    info, settings, rounds = full_link()
    settings.append(Setting(1518, 1, 10))
    rounds += [kit.round_of(number, 2, 81_000, 90 + number) for number in range(5)]
    warning = only(info, settings, rounds)
    assert warning.key == "no-baseline" and warning.value == "1518 1:10"
    assert "their cost is not known" in warning.message


def drifting(per_round):
    info, settings, rounds = full_link()
    for each in rounds:
        each.sent = each.completed = each.received = round(1_480_000 * per_round**each.round)
    return info, settings, rounds


def test_drift_of_the_baseline():
    warning = found(*drifting(0.99))["baseline-drift"]
    assert warning.message.startswith("the baseline changed from the first round to the last")
    assert warning.value == "64 0:1 -8.6 % [-8.6, -8.6]" and warning.limit == "5 %"


def test_little_drift_is_no_doubt():
    assert "baseline-drift" not in found(*drifting(0.996))


def test_noise_is_no_drift():
    info, settings, rounds = full_link()
    for each in rounds:
        each.sent = each.completed = each.received = 1_480_000 + 90_000 * (each.round * 7 % 10 // 5)
    assert found(info, settings, rounds) == {}


def lose(each, missing, **located):
    each.received, each.missing = each.sent - missing, missing
    each.located = {name.replace("_", " ", 1): count for name, count in located.items()}


def test_loss_at_the_partner():
    info, settings, rounds = full_link()
    for each in rounds:
        lose(each, 1481, partner_rx_dropped=1481)
    warning = only(info, settings, rounds)
    assert warning.key == "loss-at-partner" and not warning.is_untrusted
    assert warning.message.startswith("packets that were sent did not arrive")
    assert warning.value == "0.100 % of 29600000 (partner rx_dropped 29620)"
    assert warning.limit == "0.1 %"


def test_a_little_loss_is_no_doubt():
    info, settings, rounds = full_link()
    for each in rounds:
        lose(each, 1480, partner_rx_dropped=1480)
    assert found(info, settings, rounds) == {}


def test_pause_frames():
    info, settings, rounds = full_link()
    rounds[3].pause_frames = {"rx_pause": 7, "tx_pause": 0}
    rounds[4].pause_frames = {"rx_pause": 5, "tx_pause": 0}
    warning = only(info, settings, rounds)
    assert warning.key == "pause-frames" and warning.value == "rx_pause 12"
    assert "looks like cost" in warning.message and "ethtool -A" in warning.advice


def slow(share=0.5, user_ns=30):
    info, settings, rounds = full_link()
    for each in rounds:
        each.sent = each.completed = each.received = round(1_480_000 * share)
        each.user_ns, each.system_ns = each.sent * user_ns, each.sent * 700
    return info, settings, rounds


def test_generator_limited():
    warning = found(*slow(user_ns=300))["generator-limited"]
    assert warning.value == "user share of the baseline: 64 0:1 30 %" and warning.limit == "25 %"
    assert "it may be the limit" in warning.message


def test_a_busy_sender_on_a_full_link_is_not_the_limit():
    assert found(*slow(share=1, user_ns=300)) == {}
    assert "generator-limited" not in found(*slow(user_ns=200))


@pytest.mark.parametrize(
    ("rate", "value"),
    [
        ("1Mpps", "of 1Mpps: 64 0:1 74.0 %, 64 1:10 74.0 %"),
        ("1.5Gbit", "of 1.5Gbit: 64 0:1 33.2 %, 64 1:10 33.2 %"),
    ],
)
def test_a_rate_that_was_not_kept(rate, value):
    info, settings, rounds = slow()
    info.asked["rate"] = rate
    warning = only(info, settings, rounds)
    assert (warning.key, warning.value, warning.limit) == ("rate-missed", value, "95 %")
    assert warning.advice == "give it a CPU of its own with --cpu, a larger --batch, or ask less"


@pytest.mark.parametrize("rate", ["778kpps", None, "nonsense"])
def test_a_rate_that_was_kept_or_that_nobody_asked_for(rate):
    info, settings, rounds = slow(share=1)
    info.asked["rate"] = rate
    assert found(info, settings, rounds) == {}
    info, settings, rounds = slow()
    info.asked["rate"] = "1Mpps"
    for each in rounds:
        each.throttled_ns = 5
    assert found(info, settings, rounds) == {}


def test_a_link_that_was_never_full():
    warning = only(*slow())
    assert warning.key == "link-not-filled"
    assert warning.message.startswith("settings that never filled the link")
    assert warning.value == "2 of 2, 64 0:1 at 49.7 %"
    assert warning.limit == "95 % of 1000 Mbit/s"


def test_nobody_fills_a_veth():
    info, settings, rounds = slow()
    info.nic["driver"] = "veth"
    assert found(info, settings, rounds) == {}


@pytest.mark.parametrize(
    ("part", "key", "value"), [("asked", "rate_pps", 1000), ("nic", "speed_mbps", None)]
)
def test_a_paced_run_or_an_unknown_speed_fills_no_link(part, key, value):
    info, settings, rounds = slow(user_ns=30)
    getattr(info, part)[key] = value
    assert found(info, settings, rounds) == {}


BROKEN = {
    "sent - completed - lost": {"sent": 1_480_003, "received": 1_480_003},
    "requested - stamped - causes": {"stamped": 134_542},
    "unaccounted": {"unaccounted": 3, "missing": 3, "received": 1_479_997},
    "sent - received - missing": {"received": 1_479_997},
    "missing - located - unaccounted": {"missing": 3, "received": 1_479_997},
    "second app: requested - stamped - causes": {
        "second_app": {"requested": 9, "stamped": 5, "causes": {"skipped": 1}}
    },
    "second app: sent - completed - lost": {"second_app": {"sent": 9, "completed": 6}},
}


@pytest.mark.parametrize("name", BROKEN)
def test_every_book_that_is_broken_is_found(name):
    info, settings, rounds = full_link()
    assert open_books(rounds[3]) == {}
    for key, value in BROKEN[name].items():
        setattr(rounds[3], key, value)
    assert open_books(rounds[3]) == {name: 3}
    warning = only(info, settings, rounds)
    assert warning.key == "books-unbalanced" and warning.is_untrusted
    assert "do not add up" in warning.message
    assert warning.value == f"round 1, setting 1: {name} = +3"


def test_counters_on_the_way_count_both_apps():
    info, settings, rounds = full_link()
    rounds[3].second_app = {"sent": 3, "completed": 3, "requested": 3, "stamped": 3}
    rounds[3].located = {"partner rx_dropped": 1}  # one of the second app's
    assert found(info, settings, rounds) == {}


def test_many_broken_books_are_counted():
    info, settings, rounds = full_link()
    for each in rounds:
        each.completed += 2
    value = only(info, settings, rounds).value
    assert "completed - lost = -2" in value and value.endswith("; and 17 more")


@pytest.mark.parametrize(
    ("name", "key", "message", "is_untrusted"),
    [
        ("lost", "completions-lost", "completions that never came", True),
        ("pattern_errors", "pattern-broken", "break the pattern", True),
        ("corrupted", "packets-corrupted", "other contents", True),
        ("duplicates", "packets-duplicated", "more than once", False),
        ("reordered", "packets-reordered", "another order", False),
    ],
)
def test_what_must_not_happen(name, key, message, is_untrusted):
    info, settings, rounds = full_link()
    setattr(rounds[5], name, 4)
    if name == "lost":
        rounds[5].completed -= 4
    warning = only(info, settings, rounds)
    assert (warning.key, warning.is_untrusted) == (key, is_untrusted)
    assert message in warning.message and warning.value == "4" and warning.limit == "0"


def without_sink(rounds, nic_sent):
    for each in rounds:
        each.received = None
        each.nic_sent = each.sent if nic_sent else None


@pytest.mark.parametrize(
    ("changes", "key", "value", "limit", "advice"),
    [
        (
            {"missing": 29_601},
            "loss-at-partner",
            "0.100 % of 29600000 (partner rx_dropped 29601)",
            "0.1 %",
            "give the sink a CPU of its own, or send slower with --rate",
        ),
        (
            {"duplicates": 4},
            "packets-duplicated",
            "4",
            "0",
            "look for a loop or a mirror in the network between",
        ),
        (
            {"reordered": 4},
            "packets-reordered",
            "4",
            "0",
            "look whether the partner spreads one flow over several queues",
        ),
        (
            {"pause_frames": {"DUT rx_pause": 3}},
            "pause-frames",
            "DUT rx_pause 3",
            "0",
            "turn it off on both ends (ethtool -A IFNAME rx off tx off), and measure again",
        ),
    ],
)
def test_what_the_user_reads(changes, key, value, limit, advice):
    info, settings, rounds = full_link()
    for name, change in changes.items():
        setattr(rounds[5], name, change)
    if rounds[5].missing:
        lose(rounds[5], rounds[5].missing, partner_rx_dropped=rounds[5].missing)
    warning = only(info, settings, rounds)
    assert (warning.key, warning.value, warning.limit) == (key, value, limit)
    assert warning.advice == advice


def test_what_the_user_reads_of_a_busy_generator():
    warning = found(*slow(user_ns=300))["generator-limited"]
    assert warning.advice == "give it a CPU of its own with --cpu, and a larger --batch"


@pytest.mark.parametrize("source", ["NIC Tx counters", "completions"])
def test_bandwidth_that_nobody_counted(source):
    info, settings, rounds = full_link()
    without_sink(rounds, nic_sent=source != "completions")
    warning = only(info, settings, rounds)
    assert warning.key == "no-sink" and not warning.is_untrusted
    assert warning.message == "nobody counted what arrived: this is what left"
    assert (warning.value, warning.limit) == (source, "sink")


def test_sources_that_differ():
    info, settings, rounds = full_link()
    without_sink(rounds[4:5], nic_sent=False)
    warnings = found(info, settings, rounds)
    assert warnings["sources-differ"].value == "sink, completions"


def drop_all(each):
    each.received, each.dropped_by_kernel = None, each.sent


def test_nothing_arrived():
    info, settings, rounds = full_link()
    for each in rounds[1::2]:
        drop_all(each)
    warnings = found(info, settings, rounds)
    warning = warnings["nothing-arrived"]
    assert warning.is_untrusted and warning.value == "64 1:10"
    assert warning.message == "nothing arrived: that is not a bandwidth"
    assert warnings["dropped-by-kernel"].value == "14800000"


def test_the_link_was_gone_for_a_round():
    info, settings, rounds = full_link()
    drop_all(rounds[3])
    warnings = found(info, settings, rounds)
    assert warnings["rounds-without-arrival"].is_untrusted
    assert warnings["rounds-without-arrival"].value == "round 1, 64 1:10"
    assert "nothing-arrived" not in warnings


def test_a_round_without_duration_is_said():
    info, settings, rounds = full_link()
    rounds[2].duration_ns = 0
    assert found(info, settings, rounds)["rounds-without-arrival"].is_untrusted


def test_some_drops_are_a_doubt():
    info, settings, rounds = full_link()
    rounds[3].dropped_by_kernel = 5
    warning = only(info, settings, rounds)
    assert warning.key == "dropped-by-kernel" and not warning.is_untrusted


def test_stamps_that_timed_out():
    info, settings, rounds = full_link()
    kit.miss(rounds[3], Cause.TIMED_OUT, 2)
    app = {"requested": 3, "stamped": 0, "causes": {"timed_out": 3}}
    rounds[5].second_app = app
    warning = only(info, settings, rounds)
    assert warning.key == "stamps-timed-out" and not warning.is_untrusted
    assert warning.value == "5" and "holding its queue" in warning.message


def test_throttling_is_no_doubt():
    info, settings, rounds = full_link()
    rounds[3].throttled_ns = kit.SECOND // 2
    assert found(info, settings, rounds) == {}


def test_a_run_of_baselines_needs_no_samples():
    info, settings, rounds = full_link()
    assert run_warnings(info, kit.summary_of(0)) == []
    assert found(info, settings[:1], [each for each in rounds if not each.setting]) == {}


# --fail-if


def judged(text, **changes):
    info, settings, rounds = full_link()
    for each in rounds[1::2]:
        each.sent = each.completed = each.received = 1_406_000  # 95 %
        for name, value in changes.items():
            setattr(each, name, value)
    info.counts |= totals(settings, rounds)
    return parse_fail_if(text, "mixed").check(info, kit.summary_of(1000))


@pytest.mark.parametrize(
    ("text", "is_missed"),
    [
        ("bandwidth < 95%", False),
        ("bandwidth < 95.1%", True),
        ("lost > 0", True),
        ("not_received > 5", True),
        ("dropped_by_kernel > 0", False),
        ("pattern_errors > 0", False),
        ("missing > 0", False),
        ("tx_app_to_tx_sw max > 999ns", True),
    ],
)
def test_limits(text, is_missed):
    assert (judged(text, lost=1, missing=1) is not None) == is_missed


def test_the_worst_ratio_is_shown():
    warning = judged("bandwidth < 96%")
    assert warning.value == "95.0000% of the baseline" and warning.is_untrusted


def test_without_a_ratio_there_is_nothing_to_judge():
    info, _, _ = full_link()
    warning = parse_fail_if("bandwidth < 95%", "mixed").check(info, kit.summary_of(1))
    assert "has no value to judge" in warning.message


@pytest.mark.parametrize("text", ["bandwidth < 95", "bandwidth p50 < 1us", "answered > 0"])
def test_what_is_not_a_limit_of_mixed(text):
    with pytest.raises(ValueError, match="bandwidth is in % of the baseline"):
        parse_fail_if(text, "mixed")


def test_other_kinds_have_no_bandwidth():
    with pytest.raises(ValueError, match="unknown count 'bandwidth'"):
        parse_fail_if("bandwidth < 95%", "ping")
