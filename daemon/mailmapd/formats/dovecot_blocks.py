r"""Dovecot's configuration as a tree of blocks: what `doveconf -n` prints (2.3 and 2.4), and the files of 2.4.

    sql_driver = mysql
    mysql localhost {
      user = mail                        also mysql_user = mail
    }
    passdb sql {
      query = SELECT … \
              WHERE username = '%{user}'       a backslash at the end: the next line goes on, after one blank
      default_password_scheme = "CRYPT"        quotes are taken off, then a backslash escapes
    }
    protocol !smtp {
      passdb { … }
    }
    !include conf.d/*.conf                     relative to the including file; !include_try forgives a missing one

A value that begins with ``<`` is the content of the file that it names. Words ``$ENV:NAME`` and ``$SET:NAME`` without
quotes stand for a variable of Dovecot's environment and for another setting; `left_to_dovecot` finds them, and files
that cannot be read. `doveconf -n` leaves all of these as they are written. It hides passwords (``# hidden, use -P to
show it``) unless it is told ``-P``.
"""

from __future__ import annotations

import glob
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from mailmapd.errors import ConfigError, Fault
from mailmapd.formats.dovecot_settings import Setting

_OPENING = re.compile(r"(\w[\w-]*)(?:\s+(?!=)(\S.*?))?\s*\{")
_ASSIGNMENT = re.compile(r"([^\s={}]+)\s*=\s*(.*)", re.DOTALL)
_QUOTED = re.compile(r"""("(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')\s*(?:#.*)?""")
_WORD_OF_DOVECOT = re.compile(r"^<\s*\S+|(?<!\S)\$(?:ENV|SET):\S*")
_VERSION = re.compile(r"# (\d+)\.(\d+)\.")
_READ_INTO = frozenset(("passdb", "userdb", "mysql"))
"""Blocks in which a value may name a file; elsewhere it is a certificate or a text that nobody asks for."""
HIDDEN = "# hidden, use -P to show it"


@dataclass(slots=True)
class Block:
    """One block, such as ``passdb sql { }``: kind passdb, name sql. The whole configuration has neither."""

    kind: str
    name: str
    place: str
    settings: dict[str, Setting] = field(default_factory=dict)
    blocks: list[Block] = field(default_factory=list)
    version: tuple[int, int] | None = None
    """Of the Dovecot that printed it, if one did."""

    def get(self, key: str) -> Setting | None:
        """Return a setting by its short name: ``query`` may be written ``passdb_sql_query`` or ``sql_query``."""
        for name in (key, f"sql_{key}", f"{self.kind}_{key}", f"{self.kind}_sql_{key}"):
            if name in self.settings:
                return self.settings[name]
        return None

    def value(self, key: str, default: str = "") -> str:
        """Return a setting's value."""
        setting = self.get(key)
        return default if setting is None else setting.value

    def of_kind(self, kind: str) -> list[Block]:
        """Return the blocks of a kind in this one."""
        return [block for block in self.blocks if block.kind == kind]

    @property
    def title(self) -> str:
        """Return the block as it is opened."""
        return f"{self.kind} {self.name}".strip()


def parse_blocks(text: str, file: str) -> Block:
    """Return the tree of what doveconf has printed; a line that is not understood is passed over.

    Raises ConfigError when the blocks do not close.
    """
    reader = _Reader(strict=False)
    reader.read(text, file, (file,))
    return reader.result()


def read_blocks(path: Path) -> Block:
    """Return the tree of a file and the files that it includes. Raises ConfigError with every fault."""
    reader = _Reader(strict=True)
    reader.read_file(str(path), ())
    return reader.result()


class _Reader:
    def __init__(self, *, strict: bool) -> None:
        self._strict = strict
        self._root = Block("", "", "")
        self._open = [self._root]
        self._faults: list[Fault] = []

    def result(self) -> Block:
        if len(self._open) > 1 and not self._faults:
            block = self._open[-1]
            self._fault(block.place, f"{block.title} is not closed", "write the missing }")
        if self._faults:
            raise ConfigError(self._faults)
        return self._root

    def read_file(self, file: str, including: tuple[str, ...]) -> None:
        try:
            text = Path(file).read_bytes().decode("utf-8", "surrogateescape")
        except OSError as error:
            problem = f"cannot be read: {error.strerror}"
            self._faults.append(Fault(file, "", problem, "check the path and the permissions"))
            return
        self.read(text, file, (*including, file))

    def read(self, text: str, file: str, including: tuple[str, ...]) -> None:
        for number, line in _joined(text):
            version = _VERSION.match(line)
            if version and self._root.version is None:
                self._root.version = (int(version[1]), int(version[2]))
            if not line.startswith("#"):
                self._take(line, file, number, including)

    def _take(self, line: str, file: str, number: int, including: tuple[str, ...]) -> None:
        place = f"{file} line {number}"
        opening = _OPENING.fullmatch(_without_comment(line))
        assignment = _ASSIGNMENT.fullmatch(line)
        if line.startswith("!include") and self._strict:
            command, _, pattern = line.partition(" ")
            self._include(command, pattern.strip(), file, number, including)
        elif _without_comment(line) == "}":
            if len(self._open) == 1:
                self._fault(place, "closes a block that is not open", "remove the }")
            else:
                self._open.pop()
        elif opening is not None:
            block = Block(opening[1], _unquoted(opening[2] or ""), place)
            self._open[-1].blocks.append(block)
            self._open.append(block)
        elif assignment is not None:
            value = self._value(assignment[2], file, number)
            quoted = _QUOTED.fullmatch(assignment[2]) is not None
            out_of_file = assignment[2].startswith("<") and value != assignment[2]
            self._open[-1].settings[assignment[1]] = Setting(
                assignment[1], value, file, number, quoted=quoted or out_of_file
            )
        elif self._strict:
            self._fault(place, "is neither a setting nor a block", "correct the line")

    def _value(self, text: str, file: str, number: int) -> str:
        if text.startswith("<") and self._open[-1].kind in _READ_INTO:
            try:
                return (Path(file).parent / text[1:].strip()).read_text("utf-8").rstrip("\n")
            except (OSError, ValueError):
                if self._strict:
                    self._fault(f"{file} line {number}", f"names {text}, which cannot be read", "")
                return text
        return text if text == HIDDEN else _unquoted(text)

    def _include(
        self, command: str, pattern: str, file: str, number: int, including: tuple[str, ...]
    ) -> None:
        place = f"{file} line {number}"
        # The pattern may be an absolute path
        paths = sorted(glob.glob(str(Path(file).parent / pattern)))  # noqa: PTH207
        if not paths and command != "!include_try":
            self._fault(place, f"{command} {pattern}: no such file", "correct the path")
        for path in paths:
            if path in including:
                self._fault(place, f"{command} {pattern}: includes itself", "remove the line")
            else:
                self.read_file(path, including)

    def _fault(self, place: str, problem: str, remedy: str) -> None:
        file, _, line = place.rpartition(" line ")
        self._faults.append(Fault(file, f"line {line}", problem, remedy))


def left_to_dovecot(setting: Setting) -> str:
    """Return the first word of a value that Dovecot alone knows how to read, or nothing."""
    found = None if setting.quoted else _WORD_OF_DOVECOT.search(setting.value)
    return "" if found is None else found[0]


def is_hidden(value: str) -> bool:
    """Return whether `doveconf` has put a note in a secret's place."""
    return value == HIDDEN


def _joined(text: str) -> Iterator[tuple[int, str]]:
    """Yield the lines without blanks around them, each with its number; those that a backslash continues are one."""
    pending = ""
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.strip(" \t\r")
        if not line or (pending and line.startswith("#")):
            continue
        if line.endswith("\\") and not line.startswith("#"):
            pending += line[:-1].rstrip() + " "
            continue
        yield number, pending + line
        pending = ""


def _unquoted(text: str) -> str:
    quoted = _QUOTED.fullmatch(text)
    if quoted is not None:
        return re.sub(r"\\(.)", r"\1", quoted[1][1:-1], flags=re.DOTALL)
    return _without_comment(text)


def _without_comment(text: str) -> str:
    """Return the text without a comment, which begins with a # behind a blank, outside quotes."""
    if text.startswith("#"):
        return ""
    return re.split(r"\s+#", text, maxsplit=1)[0].rstrip() if " #" in text else text
