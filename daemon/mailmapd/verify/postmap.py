"""Asking a Postfix table for many keys at once, through ``postmap -q -``.

postmap prints ``key TAB value`` for each key that it finds, in the order of the keys, and stops at
the first lookup that fails. Then the keys are halved until the one that fails stands alone.

It folds keys and checks that they are UTF-8, as most parameters have it; the options of `_OPTIONS`
make it open a table as the others do.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from shutil import which

from mailmapd.errors import MailmapdError

MAX_FAILURES = 50
"""Keys of one table that may fail before it counts as broken."""

_OPTIONS = {"unicode": (), "ascii": ("-u",), "utf8": ("-f",), "none": ("-f", "-u")}
"""Options of postmap by a map's `fold`: -f does not fold keys, -u knows nothing of UTF-8."""

_SYSTEM_PATH = "/usr/sbin:/usr/local/sbin:/usr/bin:/bin:/sbin"


class PostmapError(MailmapdError):
    """postmap cannot be run, or a table cannot be asked at all."""


@dataclass(frozen=True, slots=True)
class LookupFailed:
    """Postfix could not tell: the last line that postmap printed."""

    text: str


class Postmap:
    """Asks the tables of one Postfix instance."""

    def __init__(self, directory: Path) -> None:
        program = which("postmap", path=_SYSTEM_PATH)
        if program is None:
            raise PostmapError("postmap is not installed here: run verify on the mail server")
        self._command = [program, "-c", str(directory.absolute())]
        self._failures: dict[str, int] = {}

    def ask(
        self, table: str, keys: Sequence[bytes], fold: str = "unicode"
    ) -> dict[bytes, bytes | LookupFailed]:
        """Return the values of the keys that are found, and `LookupFailed` where Postfix cannot tell.

        `fold` is what Postfix does to the keys before. Raises PostmapError.
        """
        askable = [key for key in keys if key and b"\n" not in key and b"\0" not in key]
        if not askable:
            return {}
        found, error = self._run(table, askable, fold)
        if not error:
            return dict(found)
        if len(askable) == 1:
            self._failures[table] = self._failures.get(table, 0) + 1
            if self._failures[table] > MAX_FAILURES:
                raise PostmapError(f"{table} fails for more than {MAX_FAILURES} keys: {error}")
            return {askable[0]: LookupFailed(error)}
        middle = len(askable) // 2
        first, second = askable[:middle], askable[middle:]
        return self.ask(table, first, fold) | self.ask(table, second, fold)

    def _run(self, table: str, keys: Sequence[bytes], fold: str) -> tuple[dict[bytes, bytes], str]:
        command = [*self._command, *_OPTIONS[fold], "-q", "-", table]
        with tempfile.TemporaryFile() as asked, tempfile.TemporaryFile() as answered:
            asked.write(b"\n".join(keys) + b"\n")
            asked.seek(0)
            with subprocess.Popen(  # noqa: S603 - a fixed program, and a table that the administrator configured
                command, stdin=asked, stdout=answered, stderr=subprocess.PIPE
            ) as process:
                error = _fatal_line(process)
            if not error and process.returncode not in (0, 1):
                error = f"postmap ended with status {process.returncode}"
            answered.seek(0)
            return (_parse(keys, answered.read()), "") if not error else ({}, error)


def _fatal_line(process: subprocess.Popen[bytes]) -> str:
    """Read postmap's warnings until it ends; after a fatal one it sleeps for a second, which is not waited for."""
    last = ""
    for line in process.stderr or ():
        text = line.decode("utf-8", "backslashreplace").strip()
        if "warning:" in text:
            last = text
        if "fatal:" in text:
            process.kill()
            return last or text
    return ""


def _parse(keys: Sequence[bytes], output: bytes) -> dict[bytes, bytes]:
    """Return the values by key.

    A value may hold newlines: a line that does not begin with a key still to come continues the
    value.
    """
    found: dict[bytes, bytes] = {}
    order = {key: index for index, key in enumerate(keys)}
    at, current = -1, b""
    for line in output.split(b"\n")[:-1]:
        key, tab, value = line.partition(b"\t")
        place = order.get(key, -1) if tab else -1
        if place > at:
            at, current = place, key
            found[key] = value
        elif current:
            found[current] += b"\n" + line
    return found
