r"""The old settings syntax of Dovecot 2.3's .conf.ext files (src/lib-settings/settings.c): lines of `key = value`.

    # a comment; it also starts at a ` #` outside quotes
    user_query = SELECT home FROM mailbox \
                 WHERE username = '%u'    a backslash at the end: the next line goes on, after one blank
    iterate_query = "SELECT 'a \"b\"' …"     quotes around the value are taken off; then a backslash escapes
    !include other.conf.ext                     relative to the including file; !include_try forgives a missing one

Later settings replace earlier ones. Comment lines and empty lines inside a continued value are skipped.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from mailmapd.errors import ConfigError, Fault

_BLANKS = " \t"
_QUOTED_OR_COMMENT = re.compile(r"""(['"])(?:\\.|(?!\1).)*(?:\1|$)|(#)""")
_ENVIRONMENT = re.compile(r"(?:^|(?<=[ \t]))\$ENV:([^ ]*)")


@dataclass(frozen=True, slots=True)
class Setting:
    """One `key = value` with the file and line it ends on, and whether quotes stood around it."""

    key: str
    value: str
    file: str
    line: int
    quoted: bool = False

    def fault(self, problem: str, remedy: str) -> Fault:
        """Return a fault of this setting."""
        return Fault(self.file, f"line {self.line}", f"{self.key} {problem}", remedy)


def read_settings(path: str | Path, environment: Mapping[str, str] | None = None) -> list[Setting]:
    """Return every setting of the file and the files it includes, in order. Raises ConfigError with all faults."""
    reader = _Reader(os.environ if environment is None else environment)
    reader.read(str(path), ())
    if reader.faults:
        raise ConfigError(reader.faults)
    return reader.settings


class _Reader:
    def __init__(self, environment: Mapping[str, str]) -> None:
        self.settings: list[Setting] = []
        self.faults: list[Fault] = []
        self._environment = environment

    def read(self, file: str, including: tuple[str, ...]) -> None:
        try:
            text = Path(file).read_bytes().decode("utf-8", "surrogateescape")
        except OSError as error:
            self.faults.append(
                Fault(
                    file,
                    "",
                    f"cannot be read: {error.strerror}",
                    "check the path and the permissions",
                )
            )
            return
        for number, line in self._joined(file, text):
            self._take(file, number, line, (*including, file))

    def _joined(self, file: str, text: str) -> Iterator[tuple[int, str]]:
        """Yield logical lines with the number of their last physical line."""
        pending = ""
        number = 0
        for number, raw in enumerate(text.split("\n"), 1):
            line = raw.removesuffix("\r").lstrip(_BLANKS)
            if not line or line.startswith("#"):
                continue
            line = _without_comment(line).rstrip(_BLANKS)
            if line.endswith("\\"):
                pending += line[:-1].rstrip(_BLANKS) + " "
                continue
            yield number, pending + line
            pending = ""
        if pending:
            self.faults.append(
                Fault(
                    file,
                    f"line {number}",
                    "the file ends inside a continued line",
                    "remove the backslash at its end",
                )
            )

    def _take(self, file: str, number: int, line: str, including: tuple[str, ...]) -> None:
        key = re.split("[ \t=]", line, maxsplit=1)[0]
        rest = line[len(key) :].lstrip(_BLANKS)
        if key in ("!include", "!include_try"):
            self._include(Fault(file, f"line {number}", f"{key} {rest}", ""), rest, including)
        elif rest.startswith("="):
            self.settings.append(Setting(key, self._value(rest[1:].lstrip(_BLANKS)), file, number))
        else:
            self.faults.append(
                Fault(
                    file,
                    f"line {number}",
                    "is not `key = value`",
                    "sections mean nothing in this file; remove the line",
                )
            )

    def _value(self, text: str) -> str:
        if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'":
            return re.sub(r"\\(.?)", r"\1", text[1:-1], flags=re.DOTALL)
        return _ENVIRONMENT.sub(lambda match: self._environment.get(match[1], ""), text)

    def _include(self, place: Fault, pattern: str, including: tuple[str, ...]) -> None:
        forgiving = place.problem.startswith("!include_try")
        paths = []
        if "\0" not in pattern:  # which no path can hold
            # The pattern may be an absolute path
            paths = sorted(glob.glob(str(Path(place.file).parent / pattern)))  # noqa: PTH207
        if not paths and not forgiving:
            self.faults.append(
                Fault(
                    place.file,
                    place.where,
                    f"{place.problem}: no such file",
                    "correct the path or remove the line",
                )
            )
        # Dovecot stacks the files of a pattern, so it reads the last one first
        for path in reversed(paths):
            if path in including:
                self.faults.append(
                    Fault(
                        place.file,
                        place.where,
                        f"{place.problem}: includes itself",
                        "remove the line",
                    )
                )
            elif not forgiving or os.access(path, os.R_OK):
                self.read(path, including)


def _without_comment(line: str) -> str:
    for match in _QUOTED_OR_COMMENT.finditer(line):
        if match[2]:
            return line[: match.start()]
    return line
