# SPDX-License-Identifier: GPL-2.0-only
"""Hand-made rounds of a ``mixed`` run, for the tests of what reads them."""

from xdptstamp.histogram import Histogram
from xdptstamp.rounds import Round, Setting
from xdptstamp.runinfo import RunInfo
from xdptstamp.sample import Cause, empty_batch
from xdptstamp.stats import Summary

SECOND = 1_000_000_000
START = 1763818000000000000

BASELINE, ONE_TEN, ALL = Setting(64, 0, 1), Setting(64, 1, 10), Setting(64, 1, 0)


def round_of(number, setting, sent, order=0, requested=0, **fields):
    """A round of one second whose books are balanced: all sent packets arrived at the sink."""
    each = Round(number, setting, order, duration_ns=SECOND)
    each.sent = each.completed = each.received = sent
    each.requested = each.stamped = requested
    each.user_ns, each.system_ns = sent * 30, sent * 700
    for name, value in fields.items():
        setattr(each, name, value)
    return each


def miss(each, cause, count):
    """Let ``count`` of a round's stamps be missing."""
    each.stamped -= count
    each.causes[cause.label] += count
    return each


def add_holds(each, **values):
    """Hold times by position, and ``reap`` periods."""
    for name, ns in values.items():
        (each.reap if name == "reap" else each.hold[name]).add(ns)
    return each


def three_settings():
    """Baseline, 1:10 and 1:0, each slower than the one before: six rounds and three warm-ups."""
    settings = [BASELINE, ONE_TEN, ALL]
    rounds = []
    for number in range(7):
        for index, per_round in enumerate((1_000_000, 990_000, 800_000)):
            sent = per_round + (number % 3) * 1100 * (index + 1)
            requested = (0, sent // 11, sent)[index]
            # A warm-up comes first, with the number and the place of what it warms up for.
            first = max(number, 1)
            order = 3 * first + index
            each = round_of(first, index, sent, order, requested, is_warmup=number == 0)
            rounds.append(add_holds(each, reap=[10_000, 11_000, 12_000] * 400))
            if not index:
                add_holds(each, others=range(15_000, 16_000))
            else:
                add_holds(each, stamped=range(20_000, 21_000))
    for each in rounds[4::3]:
        add_holds(each, behind=[9_000] * 100, others=range(15_000, 16_000))
    miss(rounds[4], Cause.SKIPPED, 3)
    return settings, rounds


def two_apps():
    """Baseline, a second app on another queue, and one stamped packet per interval; five rounds."""
    settings = [BASELINE, Setting(64, 0, 1, 1_000_000, has_second_app=True)]
    settings.append(Setting(64, 0, 1, 250_000))
    rounds = []
    for number in range(5):
        for index, sent in enumerate((1_000_000, 990_000 + number, 985_000 - number)):
            requested = 4000 if index == 2 else 0
            each = round_of(number, index, sent, 3 * number + index, requested)
            add_holds(each, others=range(15_000, 16_000), reap=[9_000] * 300)
            if index == 1:
                each.second_app = second_app()
            elif index == 2:
                each.throttled_ns = SECOND // 1000
            rounds.append(each)
    return settings, rounds


def second_app():
    """The books of a second app that sent a thousand packets, and missed two of their stamps."""
    latency = Histogram()
    latency.add(range(5000, 9000))
    counts = {"sent": 1000, "requested": 1000, "stamped": 998, "completed": 1000, "lost": 0}
    return {**counts, "causes": {"skipped": 1, "timed_out": 1, "reset": 0}, "latency": latency}


def info_of(**fields):
    """The run info of a run on a veth in copy mode."""
    info = RunInfo(
        run_id="20251122T132640Z-board7-eth1-mixed",
        kind="mixed",
        state="complete",
        started_utc="2025-11-22T13:26:40Z",
        argv=["xdptstamp", "mixed"],
        ended_utc="2025-11-22T13:26:50Z",
        timestamps="software",
        asked={"mode": "auto", "xdp_mode": "native"},
        obtained={
            "mode": "copy",
            "xdp_mode": "native",
            "queues": [0],
            "cpu": 1,
            "batch": 256,
            "max_pending": None,
            "seed": 42,
            "rounds": 6,
            "duration_ns": SECOND,
            "warmup_ns": 200_000_000,
        },
        dut={
            "hostname": "board7",
            "cpu_model": "Intel(R) Atom(R) x6425E",
            "machine": "x86_64",
            "num_cpus": 4,
            "kernel_release": "6.12.57-rt14",
        },
        nic={"ifname": "eth1", "driver": "veth", "kind": "veth", "speed_mbps": 10000},
        partner={"remote_v4": "198.51.100.2", "remote_type": "netns"},
    )
    for key, value in fields.items():
        if isinstance(value, dict):
            getattr(info, key).update(value)
        else:
            setattr(info, key, value)
    return info


def summary_of(num_samples=0):
    """The summary of so many stamped samples."""
    summary = Summary("mixed")
    batch = empty_batch(num_samples)
    batch["tx_app_ns"], batch["tx_sw_ns"] = START, START + 1000
    summary.add(batch)
    return summary
