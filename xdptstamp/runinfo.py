# SPDX-License-Identifier: GPL-2.0-only
"""The run info: everything about a run that is not a sample. ``run.json`` is its JSON form."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

#: Raised by one whenever a reader of the old form would misread the new one.
SCHEMA_VERSION = 1

STATES = ("running", "complete", "interrupted")


@dataclass(frozen=True, slots=True)
class Warning:
    """A doubt about a run: the value, the limit it passed and what to do about it.

    :param key: stable name ("fill-ring-empty").
    :param is_untrusted: the run's numbers must not be relied on (exit code 3).
    """

    key: str
    message: str
    value: str
    limit: str
    advice: str
    is_untrusted: bool = False

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Warning:
        """A warning of a ``run.json``; what a later version adds is left out.

        :raises TypeError: If it is none.
        """
        known = {item.name for item in dataclasses.fields(cls)}
        return cls(**{key: value for key, value in data.items() if key in known})


@dataclass(slots=True)
class RunInfo:
    """What a run was asked to do, what it obtained, where, and what it counted.

    ``asked`` and ``obtained`` use the same keys where both exist (``mode``: asked "auto",
    obtained "copy"). ``timestamps`` is "hardware", "software" or "none" and belongs in every
    header. ``clocks`` names the clock of each capture column, ``clock_comparison`` says how the
    NIC's clock compared with CLOCK_TAI; it is empty where no stamp is the NIC's. ``counters`` maps
    the name of a counter to its value before and after the run. ``counts`` are the run's own books.
    """

    run_id: str
    kind: str
    state: str
    started_utc: str
    argv: list[str]
    label: str | None = None
    ended_utc: str | None = None
    timestamps: str = "none"
    asked: dict[str, Any] = field(default_factory=dict)
    obtained: dict[str, Any] = field(default_factory=dict)
    dut: dict[str, Any] = field(default_factory=dict)
    nic: dict[str, Any] = field(default_factory=dict)
    partner: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    clocks: dict[str, str] = field(default_factory=dict)
    clock_comparison: dict[str, Any] = field(default_factory=dict)
    counters: dict[str, dict[str, int]] = field(default_factory=dict)
    counts: dict[str, Any] = field(default_factory=dict)
    warnings: list[Warning] = field(default_factory=list)
    ended_by: str | None = None
    schema_version: int = SCHEMA_VERSION

    @property
    def is_trusted(self) -> bool:
        """Whether no warning forbids relying on the numbers."""
        return not any(warning.is_untrusted for warning in self.warnings)

    def to_json(self) -> dict[str, Any]:
        """The dictionary that ``run.json`` holds."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> RunInfo:
        """The run info of a ``run.json``.

        :raises KeyError, TypeError, ValueError: If it is not one, or of an unknown schema.
        """
        check_version(data)
        known = {item.name for item in dataclasses.fields(cls)}
        fields = {key: value for key, value in data.items() if key in known}
        fields["warnings"] = [Warning.from_json(each) for each in data.get("warnings", [])]
        info = cls(**fields)
        if info.state not in STATES:
            raise ValueError(f"unknown state {info.state!r}")
        return info


def check_version(data: dict[str, Any]) -> None:
    """Refuse the content of a ``run.json`` of another schema.

    :raises ValueError: If it is.
    """
    version = data.get("schema_version")
    if version != SCHEMA_VERSION or isinstance(version, bool):
        raise ValueError(f"schema version {version!r}, this xdptstamp reads {SCHEMA_VERSION}")
