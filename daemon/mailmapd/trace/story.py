"""Stories: one lookup written down, key by key and table by table."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum

from mailmapd.model import NOT_FOUND, Answer, Found, ResultSet

HIDDEN = b"(hidden)"
"""Stands for a value of a secret table."""


class Event(Enum):
    """An event of the story: one key in one table."""

    NOT_ASKED = "not asked"
    REMEMBERED = "as above"
    NO_ROW = "no row"
    NO_VALUE = "no value"
    ROWS = "found"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Step:
    """One key in one table.

    `reason` says why it was not asked, or what failed; `value` is what the table makes of its rows.

    `secret` says that the rows and the value are not to be shown to anybody who did not ask for them.

    `sql_key` is what a daemon's memory would know the answer under; None for a key that is not asked.
    """

    key: bytes
    extension: bytes
    table: str
    event: Event
    sql: str = ""
    host: str = ""
    seconds: float = 0.0
    rows: ResultSet | None = None
    value: bytes = b""
    reason: str = ""
    sql_key: bytes | None = None
    secret: bool = False


@dataclass(slots=True)
class Story:
    """A whole lookup: its steps in order, the answer, and why it is what it is.

    `secret` says that the answer came from a table that is marked so.
    """

    map: str
    key: bytes
    steps: list[Step] = field(default_factory=list)
    answer: Answer = NOT_FOUND
    why: str = ""
    secret: bool = False


@dataclass(slots=True)
class HostRecorder:
    """A database observer that remembers which host answered last."""

    host: str = ""

    # - the observer's interface
    def query_finished(self, database: str, host: str, outcome: str, seconds: float) -> None:  # noqa: ARG002
        """Remember the host."""
        self.host = host

    def host_state(self, database: str, host: str, up: bool) -> None:
        """Pass over that a host went up or down."""


def without_secrets(story: Story) -> Story:
    """Return the story with what secret tables answered hidden."""
    steps = [
        replace(step, rows=_hidden_rows(step.rows), value=HIDDEN) if step.secret else step
        for step in story.steps
    ]
    answer = story.answer
    if story.secret and isinstance(answer, Found):
        answer = Found(HIDDEN)
    return replace(story, steps=steps, answer=answer)


def _hidden_rows(rows: ResultSet | None) -> ResultSet | None:
    if rows is None:
        return None
    return ResultSet(
        rows.columns,
        tuple([tuple([None if value is None else HIDDEN for value in row]) for row in rows.rows]),
    )
