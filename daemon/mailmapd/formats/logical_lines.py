"""The logical lines of main.cf, master.cf and .cf files, see postconf(5), master(5) and readlline(3).

A line that starts with white space continues the line before it; comment lines and empty lines are
left out, even between a line and its continuation. Carriage returns count as white space, and the
last line needs no newline.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from mailmapd.errors import ConfigError, Fault

BLANKS = " \t\r\n\v\f"
"""Postfix's white space."""


class LogicalLine(NamedTuple):
    """One logical line: the number of its first physical line, and its text without newlines."""

    number: int
    text: str

    @property
    def continues_nothing(self) -> bool:
        """Return whether it begins with white space, with no line before it, so that Postfix leaves it out."""
        return self.text[0] in BLANKS


def read_text(path: Path) -> str:
    """Return the file as text; bytes that are no UTF-8 survive as surrogates. Raises ConfigError."""
    try:
        return path.read_bytes().decode("utf-8", "surrogateescape")
    except OSError as error:
        remedy = (
            "run as a user who may read it"
            if isinstance(error, PermissionError)
            else "check the path"
        )
        raise ConfigError(
            [Fault(str(path), "", f"cannot be read: {error.strerror}", remedy)]
        ) from error


def logical_lines(text: str) -> Iterator[LogicalLine]:
    """Yield the logical lines of `text`."""
    number, parts = 0, list[str]()
    for index, line in enumerate(text.split("\n"), start=1):
        content = line.strip(BLANKS)
        if not content or content.startswith("#"):
            continue
        if line[0] in BLANKS and parts:
            parts.append(line)
            continue
        if parts:
            yield LogicalLine(number, "".join(parts))
        number, parts = index, [line]
    if parts:
        yield LogicalLine(number, "".join(parts))
