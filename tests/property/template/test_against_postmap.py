"""Templates and files as Postfix reads them.

The same .cf files and keys for ``postmap -q`` of a sqlite: table and for our table.

The queries return their own expanded text, so that every expansion and every escape shows in the answer.
"""

from __future__ import annotations

import os
import random
import sqlite3
import subprocess
from pathlib import Path

import pytest

from mailmapd.formats.postfix_cf import read_postfix_cf
from mailmapd.model import ResultSet
from mailmapd.template.fold import fold
from mailmapd.template.mysql_table import MysqlTable
from mailmapd.template.sql_quoting import sqlite_quote
from support.process import program

TABLES = 60
KEYS = 120

PARTS = [
    "%s",
    "%u",
    "%d",
    "%S",
    "%U",
    "%D",
    "%1",
    "%2",
    "%3",
    "%%",
    "a",
    "x@y.example",
    "-",
    "@",
    " ",
    "é",
    "u@",
    "@d",
]
ATOMS = [
    "user",
    "a.b",
    "A",
    "@",
    "@",
    "@example.com",
    "@Sub.Example.COM",
    ".",
    "..",
    "+x",
    "'",
    '"',
    "\\",
    "%s",
    "é",
    "@BÜCHER.de",
    "ß",
    "@x..y.",
]
DOMAINS = [
    "",
    "",
    "example.com",
    "!sub.example.com, example.com",
    "bücher.de EXAMPLE.com",
    "!example.com",
    "{file}",
    "!{file} example.com",
]


class Postmap:
    """The real program, with a configuration of its own."""

    def __init__(self, directory: Path) -> None:
        self._command = [program("postmap", "postfix-sqlite"), "-c", str(directory), "-q", "-"]
        (directory / "main.cf").write_text("compatibility_level = 3.6\n")
        dynamic = Path("/etc/postfix/dynamicmaps.cf")
        if dynamic.exists():
            (directory / "dynamicmaps.cf").write_bytes(dynamic.read_bytes())

    def query(self, file: Path, keys: list[bytes]) -> dict[bytes, bytes]:
        """Return what is found; every key is a line without white space at its ends."""
        # Postfix waits until a file is two seconds old, lest it reads half of it.
        os.utime(file, (0, 0))
        done = subprocess.run(
            [*self._command, f"sqlite:{file}"],
            input=b"\n".join(keys) + b"\n",
            capture_output=True,
            check=False,
        )
        assert b"fatal" not in done.stderr, done.stderr
        lines = done.stdout.split(b"\n")
        return dict(line.split(b"\t", 1) for line in lines if line)


class Answers:
    """Our reading of the same file, its queries run by Python's own SQLite."""

    def __init__(self, file: Path) -> None:
        cf = read_postfix_cf(file)
        self._table = MysqlTable.compile(
            file.name, cf.query, cf.result_format, cf.domain, first_column_only=cf.sqlite
        )
        self._database = sqlite3.connect(cf.dbpath)
        self._database.text_factory = bytes

    def query(self, key: bytes) -> bytes | None:
        """Return one answer, or None when the key is not found."""
        folded = fold(key)
        sql_key = None if folded is None else self._table.sql_key(folded)
        if folded is None or sql_key is None:
            return None
        rows = self._database.execute(
            self._table.statement(sql_key).render(sqlite_quote).decode()
        ).fetchall()
        return self._table.expand(folded, self._table.values(ResultSet(("a",), tuple(rows))))

    def close(self) -> None:
        """Close the database."""
        self._database.close()


def random_file(source: random.Random, directory: Path) -> str:
    """Return the text of a .cf file with a query that returns one to three rows."""

    def text(longest: int) -> str:
        return "".join(source.choices(PARTS, k=source.randint(1, longest)))

    selects = [
        source.choice(["NULL", "''", *[f"'{text(4)}'"] * 6]) for _ in range(source.randint(1, 3))
    ]
    query = "\n  UNION ALL ".join(f"SELECT {value}" for value in selects)
    result_format = source.choice(["%s", "%s", text(3), text(2) + "%s"]).strip() or "%s"
    domain = source.choice(DOMAINS).replace("{file}", str(directory / "domains"))
    ending = source.choice(["\n", "\r\n"])
    lines = [
        f"dbpath={directory}/mail.db",
        f"query = {query}",
        "# a comment",
        f"result_format = {result_format}",
        f"domain = {domain}",
    ]
    return ending.join("\n".join(lines).split("\n")) + source.choice(["", ending])


@pytest.mark.servers
def test_answers_are_those_of_postmap(tmp_path: Path) -> None:
    """Random templates, result formats, domain lists and keys give what the real postmap gives, without exception."""
    source = random.Random(37)
    postmap = Postmap(tmp_path)
    sqlite3.connect(tmp_path / "mail.db").execute("CREATE TABLE t (a)").connection.close()
    (tmp_path / "domains").write_text("# none.example\nexample.com, !x..y.\n  sub.example.com\n")
    file = tmp_path / "table.cf"
    for number in range(TABLES):
        file.write_bytes(random_file(source, tmp_path).encode())
        keys = sorted(
            {"".join(source.choices(ATOMS, k=source.randint(1, 4))).encode() for _ in range(KEYS)}
        )
        expected = postmap.query(file, keys)
        answers = Answers(file)
        assert {
            key: answer for key in keys if (answer := answers.query(key)) is not None
        } == expected, (number, file.read_text())
        answers.close()
