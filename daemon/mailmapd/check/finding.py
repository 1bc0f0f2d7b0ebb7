"""Findings: what is wrong, where, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class Level(IntEnum):
    """The weight of a finding. Notes do not fail a check."""

    NOTE = 0
    WARNING = 1
    FAULT = 2

    @property
    def word(self) -> str:
        """Return the level as a word."""
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding.

    `code` is a fixed word for machines, `where` a file, table, map or database, `remedy` what to
    write or do instead.
    """

    level: Level
    code: str
    where: str
    problem: str
    remedy: str = ""
