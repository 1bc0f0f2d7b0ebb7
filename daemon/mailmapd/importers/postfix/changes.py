"""The plan of a move: what mailmapd.toml will hold, and what main.cf and master.cf will say instead."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from mailmapd.errors import Fault
from mailmapd.formats.master_cf import Service
from mailmapd.importers.draft import Draft

SAVED = ".before-mailmapd"
"""The end of the name under which a file is kept as it was."""

SOCKET_IN_QUEUE = "mailmapd/socketmap"
"""The socket's place below queue_directory, where chrooted and plain Postfix programs find it alike."""


@dataclass(frozen=True, slots=True)
class Change:
    """One parameter's new value; with a service, in its ``-o`` option.

    `stays` are other tables of the list, which remain. `keeps` says why the parameter gets its old
    value: it referred to one that moves.
    """

    parameter: str
    service: Service | None
    value: str
    maps: tuple[str, ...]
    stays: tuple[str, ...]
    notes: tuple[str, ...]
    keeps: str = ""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A use of a database that stays as it is, and why: `faults` are those of its files, if that is the reason."""

    where: str
    reason: str
    faults: tuple[Fault, ...] = ()


@dataclass(frozen=True, slots=True)
class Restore:
    """An old value that goes back into today's file before it is saved; None takes the parameter out of it."""

    parameter: str
    service: Service | None
    value: str | None


Place = tuple[str, int]
"""A parameter, and the line of the service in master.cf whose option it is; 0 in main.cf."""


def place(parameter: str, service: Service | None) -> Place:
    """Return the place of a parameter."""
    return parameter, 0 if service is None else service.line


@dataclass(slots=True)
class MovePlan:
    """Everything an import decides."""

    directory: Path
    queue_directory: str
    draft: Draft
    changes: list[Change] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    restores: list[Restore] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    members: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Map names and the .cf files that they stand for, in order."""
