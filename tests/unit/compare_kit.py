# SPDX-License-Identifier: GPL-2.0-only
"""Runs to hold against each other: of ``mixed`` and of ``ping``, each as slow as a test wants."""

import numpy as np
from click.testing import CliRunner

from tests.unit.data_kit import T0, edit_info, info_json, info_of, write_run
from tests.unit.mixed_kit import BASELINE, ONE_TEN, add_holds, round_of
from xdptstamp.cli.main import command
from xdptstamp.sample import Cause, empty_batch
from xdptstamp.store.rounds import rounds_json, write_rounds


def compare(*arguments):
    """``xdptstamp compare ARGUMENTS`` in this process."""
    return CliRunner().invoke(command, ["compare", *map(str, arguments)])


def mixed(base, seed, speed=1.0, num_rounds=6, spread=0.002, missing=0, settings=None, **fields):
    """A run whose rates are those of ``speed``, spread by so much from round to round."""
    rng = np.random.default_rng(seed)
    settings = [BASELINE, ONE_TEN] if settings is None else settings
    rounds = []
    for number in range(num_rounds):
        for index, setting in enumerate(settings):
            sent = int(1_000_000 * speed * (1 - 0.1 * index) * np.exp(rng.normal(0, spread)))
            each = round_of(number, index, sent, 2 * number + index)
            each.requested = each.stamped = 0 if setting.is_baseline else sent // 11
            if missing and not setting.is_baseline:
                each.stamped -= missing
                each.causes[Cause.SKIPPED.label] += missing
            holds = (rng.gamma(40, 500, 2000) / speed).astype(int)
            position = "others" if setting.is_baseline else "stamped"
            rounds.append(add_holds(each, reap=[5_000] * 100, **{position: holds}))
    info = info_of("mixed", **fields)
    info.counts = rounds_json(settings, rounds)
    path = write_run(base, info, empty_batch(0))
    write_rounds(path, settings, rounds)
    return path


def ping(base, seed, mean_us=50, count=2000, lost=0, **fields):
    """A run of ``ping`` with round trips of about so many microseconds."""
    rng = np.random.default_rng(seed)
    batch = empty_batch(count)
    batch["seq"], batch["len"] = np.arange(count), 64
    batch["tx_app_ns"] = T0 + batch["seq"] * 1_000_000
    batch["tx_sw_ns"] = batch["tx_app_ns"] + 2_000
    times = (rng.gamma(100, mean_us * 10, count)).astype(np.int64)
    batch["rx_sw_ns"], batch["rx_app_ns"] = (batch["tx_app_ns"] + times - back for back in (900, 0))
    info = info_of("ping", **fields)
    info.counts = {"sent": count + lost, "received": count, "lost": lost}
    return write_run(base, info, batch)


def change_info(path, part, **values):
    """Change what a run on disk says of its ``dut``, ``nic``, ``obtained``, ..."""
    edit_info(path, **{part: info_json(path)[part] | values})
    return path
