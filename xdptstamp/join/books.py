# SPDX-License-Identifier: GPL-2.0-only
"""The books of a join with the truth: what :func:`xdptstamp.join.join_truth` found."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Literal

from xdptstamp.runinfo import Warning

Direction = Literal["tx", "rx"]

#: What ``problem`` of a named row says.
WRONG = "differs from the wire"
FALSE = "has a stamp that the model never delivered"
AMBIGUOUS = "cannot be told apart from others that carry the same"
UNSEEN = "timed out, and the model saw no request"
DENIED = "has no request by the run, and the model saw one"
ACAUSAL = "was on the wire before its submit or after its completion"


@dataclass(slots=True)
class Side:
    """The books of one direction.

    :param num_stamps: the run has so many.
    :param num_joined: of these, the moment on the wire is known.
    :param num_wrong: of these, so many differ from it, all by ``min_error_ns`` to ``max_error_ns``.
    :param num_false: stamps of the run that the model never delivered.
    :param num_missing: stamps that the model delivered, and the run has not.
    :param num_ambiguous: rows that cannot be told apart from others.
    :param num_misplaced: entries that are not where the run's order has them.
    :param num_requests_run: requests the driver took, by the run's books;
        ``num_requests_model``: those that the model saw. Of Tx alone.
    :param num_unseen: requests the driver took, by the run's books, that the model did not see.
    :param num_denied: requests the model saw of packets for which the run says there was none.
    :param num_acausal: packets that were on the wire before their submit or after their completion,
        as the run compared its clocks. Of Tx alone.
    :param driver_ns: the driver's correction, least and greatest: None without a joined stamp.
    :param model_ns: from register to wire in the model (wire to register of Rx), likewise.
    :param constant_ns: of the table of drivers, for this link's speed; ``constant``: its name.
    :param named: the first rows of which something is wrong.
    """

    direction: Direction
    num_stamps: int = 0
    num_joined: int = 0
    num_wrong: int = 0
    min_error_ns: int | None = None
    max_error_ns: int | None = None
    num_false: int = 0
    num_missing: int = 0
    num_ambiguous: int = 0
    num_misplaced: int = 0
    num_requests_run: int = 0
    num_requests_model: int = 0
    num_unseen: int = 0
    num_denied: int = 0
    num_acausal: int = 0
    driver_ns: tuple[int, int] | None = None
    model_ns: tuple[int, int] | None = None
    constant_ns: int | None = None
    constant: str | None = None
    named: list[dict[str, Any]] = field(default_factory=list)


@dataclass(slots=True)
class Truth:
    """What a join found.

    :param log: where the log is; ``is_log_cut``: without its last, half line.
    :param tx: None: the run has no Tx stamps, and asked for none; ``rx`` alike.
    """

    run_id: str
    log: str
    is_log_cut: bool
    driver: str
    speed_mbps: int | None
    tx: Side | None = None
    rx: Side | None = None
    warnings: list[Warning] = field(default_factory=list)

    @property
    def is_trusted(self) -> bool:
        """Whether nothing speaks against the stamps."""
        return not any(warning.is_untrusted for warning in self.warnings)

    @property
    def sides(self) -> list[Side]:
        """Those there are."""
        return [side for side in (self.tx, self.rx) if side is not None]

    def to_json(self) -> dict[str, Any]:
        """What ``truth.json`` holds."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Truth:
        """The opposite of :meth:`to_json`; what a later version adds is left out.

        :raises KeyError, TypeError, ValueError: If it is not that.
        """
        known = {item.name for item in dataclasses.fields(cls)}
        fields = {key: value for key, value in data.items() if key in known}
        sides = {name: data[name] and _side(data[name]) for name in ("tx", "rx")}
        fields["warnings"] = [Warning.from_json(each) for each in data["warnings"]]
        return cls(**(fields | sides))


def _side(data: dict[str, Any]) -> Side:
    known = {item.name for item in dataclasses.fields(Side)}
    fields = {key: value for key, value in data.items() if key in known}
    for name in ("driver_ns", "model_ns"):
        if fields.get(name) is not None:
            least, greatest = fields[name]
            fields[name] = (least, greatest)
    return Side(**fields)
