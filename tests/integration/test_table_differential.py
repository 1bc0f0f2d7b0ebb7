"""Postfix's own mysql: tables and the daemon's, asked the same random keys of the same random .cf files."""

from __future__ import annotations

import itertools
import os
import random
import re
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.daemon import Daemon
from support.mariadb import MariaDB, private_directory
from support.postfix import Postfix
from support.process import free_port
from support.random_tables import CfFile, RandomTables
from support.table_samples import NOT_UTF8

SEED = int(os.environ.get("MAILMAPD_TEST_SEED") or random.SystemRandom().randrange(10**9))
KEYS_PER_TABLE = 60
PARALLEL = 4
DIFFERENCES_SHOWN = 5
TCP_TABLES = 25
SQLITE_TABLES = 60
LONGEST_ENCODED = 4091  # bytes: tcp_table(5)'s limit for a line, less its "200 " and line feed
# socketmap_table(5)'s limit for a reply in bytes, less its "OK ": a longer one fails, whatever mysql: says
LONGEST_VALUE = 99_997


@dataclass(frozen=True)
class Mode:
    """A server's SQL mode, the string delimiters that queries may use there, and how many tables are compared."""

    sql_mode: str
    quotes: str
    tables: int


MODES = {
    "default": Mode("STRICT_TRANS_TABLES", "''''\"", 200),
    "no-backslash-escapes": Mode("NO_BACKSLASH_ESCAPES", "'", 80),
    "ansi-quotes": Mode("ANSI_QUOTES,PIPES_AS_CONCAT,ERROR_FOR_DIVISION_BY_ZERO", "'", 40),
    "ansi": Mode("ANSI,NO_BACKSLASH_ESCAPES,PAD_CHAR_TO_FULL_LENGTH", "'", 40),
}


@dataclass(frozen=True)
class Difference:
    """A key that the two sides answer differently."""

    key: bytes
    ours: str
    theirs: str


def configuration(directory: Path, tables: dict[str, CfFile], ports: dict[str, int]) -> str:
    """Return a mailmapd.toml that serves every .cf file as a map of its own, some of them over tcp_table, too."""
    lines = [f'[listen]\nsocketmap = ["unix:{directory}/socketmap"]\n[listen.tcp_table]\n']
    lines += [f'{name} = "127.0.0.1:{port}"\n' for name, port in ports.items()]
    for name, cf in tables.items():
        fold = "" if cf.fold else "fold = false\n"
        lines.append(
            f'[table.{name}]\npostfix_cf = "{name}.cf"\n{fold}[map.{name}]\ntables = ["{name}"]\nsearch = "exact"\n'
        )
    return "".join(lines)


class Comparison:
    """Asks `postmap` the same keys of two maps, and counts what came of it."""

    def __init__(
        self, postfix: Postfix, theirs: str, ours: str, *, fold: bool, longest: int
    ) -> None:
        self._postfix = postfix
        self._maps = (theirs, ours)
        self._options = () if fold else ("-f",)
        self._longest = longest
        self.found = self.failed = 0

    def differences(self, keys: list[bytes]) -> Iterator[Difference]:
        """Yield what differs.

        Where a side ends in an error, compare by halves, because postmap stops at its first error.
        """
        theirs, ours = (self._postfix.postmap(table, keys, *self._options) for table in self._maps)
        if not theirs.failed and not ours.failed and theirs.found == ours.found:
            self.found += sum(
                theirs.found.startswith(key + b"\t") or b"\n" + key + b"\t" in theirs.found
                for key in keys
            )
        elif len(keys) > 1:
            yield from self.differences(keys[: len(keys) // 2])
            yield from self.differences(keys[len(keys) // 2 :])
        elif ours.failed and (
            theirs.failed or len(theirs.found) - len(keys[0]) - 2 > self._longest
        ):
            self.failed += 1
        else:
            yield Difference(
                keys[0], f"{ours.found!r} {ours.errors}", f"{theirs.found!r} {theirs.errors}"
            )


def report(mode: str, name: str, cf: CfFile, found: list[Difference]) -> str:
    """Tell one table's differences so that they can be run again."""
    lines = [
        (
            f"MAILMAPD_TEST_SEED={SEED}, SQL mode {mode}, table {name}, fold {cf.fold}, the first "
            f"{len(found)} differences:"
        ),
        cf.text,
    ]
    lines += [
        f"  key {item.key[:200]!r}\n    Postfix: {item.theirs[:600]}\n    mailmapd: {item.ours[:600]}"
        for item in found
    ]
    return "\n".join(lines)


def compare_all(
    mode: str,
    home: Path,
    generator: RandomTables,
    tables: dict[str, CfFile],
    theirs: str,
    *,
    over_tcp: bool = False,
) -> None:
    """Serve the tables, ask both sides random keys of each, print the counts, and fail with what differs.

    `theirs` is the type of Postfix's own tables. Over tcp_table a value takes up to three bytes per
    byte of a line of 4096.
    """
    for name, cf in tables.items():
        (home / f"{name}.cf").write_text(cf.text)
    ports = {name: free_port() for name in tables} if over_tcp else {}
    with (
        private_directory() as instance,
        Daemon(home, configuration(home, tables, ports)) as daemon,
        ThreadPoolExecutor(PARALLEL) as threads,
    ):
        postfix = Postfix(instance, {})
        comparisons = [
            Comparison(
                postfix,
                f"{theirs}:{home}/{name}.cf",
                f"tcp:127.0.0.1:{ports[name]}"
                if over_tcp
                else f"socketmap:unix:{home}/socketmap:{name}",
                fold=cf.fold,
                longest=LONGEST_ENCODED // 3 if over_tcp else LONGEST_VALUE,
            )
            for name, cf in tables.items()
        ]
        asked = [generator.keys(KEYS_PER_TABLE) for _ in tables]

        def compare(comparison: Comparison, keys: list[bytes]) -> list[Difference]:
            return list(itertools.islice(comparison.differences(keys), DIFFERENCES_SHOWN))

        results = dict(zip(tables, threads.map(compare, comparisons, asked), strict=True))
        log = daemon.text()
    total, found = KEYS_PER_TABLE * len(tables), sum(comparison.found for comparison in comparisons)
    failed = sum(comparison.failed for comparison in comparisons)
    print(f"seed {SEED}, {mode}: {total} comparisons, {found} found, {failed} errors on both sides")
    reports = [
        report(mode, name, tables[name], differing)
        for name, differing in results.items()
        if differing
    ]
    assert not reports, (
        f"{len(reports)} tables differ\n\n"
        + "\n\n".join(reports[:10])
        + f"\n\nmailmapd's log:\n{log[-4000:]}"
    )
    assert "Traceback" not in log, log
    assert found > total / 10, "too few keys were found for the comparison to mean much"


def tables_of(
    generator: RandomTables, database: dict[str, str], home: Path, count: int
) -> dict[str, CfFile]:
    """Return so many random tables with their names."""
    return {f"t{number:03}": generator.cf_file(database, home) for number in range(count)}


@pytest.mark.servers
@pytest.mark.parametrize("mode", MODES)
def test_random_tables_answer_as_postfix_does(mode: str) -> None:
    """Every random key of every random table gets the answer of Postfix's own mysql: map, in every SQL mode."""
    generator = RandomTables(SEED + list(MODES).index(mode), MODES[mode].quotes)
    with (
        private_directory() as data,
        private_directory() as home,
        MariaDB(data, sql_mode=MODES[mode].sql_mode) as server,
    ):
        tables = tables_of(generator, generator.fill(server), home, MODES[mode].tables)
        compare_all(mode, home, generator, tables, "mysql")


@pytest.mark.servers
def test_random_tables_answer_alike_over_tcp_table() -> None:
    """Random tables served over tcp_table(5) answer as Postfix's own mysql.

    Maps, but for values too long for its lines.
    """
    generator = RandomTables(SEED + 1000)
    with private_directory() as data, private_directory() as home, MariaDB(data) as server:
        tables = tables_of(generator, generator.fill(server), home, TCP_TABLES)
        compare_all("tcp_table", home, generator, tables, "mysql", over_tcp=True)


@pytest.mark.servers
def test_random_sqlite_tables_answer_as_postfix_does() -> None:
    """Every random key of every random SQLite table gets the answer of Postfix's own sqlite: map."""
    with private_directory() as home, closing(sqlite3.connect(home / "mail.sqlite")) as connection:

        def usable(query: str) -> bool:
            # A second statement is the one difference on purpose: Postfix passes over it in
            # silence, the daemon names it as a fault.
            if "; SELECT" in query:
                return False
            try:
                connection.execute(re.sub("%[a-zA-Z1-9]", "x", query).replace("%%", "%"))
            except sqlite3.Error:
                return False
            return True

        generator = RandomTables(SEED + 2000, usable=usable)
        tables = tables_of(
            generator, generator.fill_sqlite(home / "mail.sqlite"), home, SQLITE_TABLES
        )
        compare_all("sqlite", home, generator, tables, "sqlite")


@pytest.mark.servers
def test_keys_that_are_not_utf8_are_not_found() -> None:
    """A key that is not UTF-8 (which Postfix sends with smtputf8_enable = no) is not found, even by
    a query that repeats its key.
    """
    with private_directory() as data, private_directory() as home, MariaDB(data) as server:
        database = RandomTables(0).fill(server)
        text = (
            "".join(f"{name} = {value}\n" for name, value in database.items())
            + "query = SELECT '%s'\n"
        )
        (home / "echo.cf").write_text(text)
        with (
            Daemon(home, configuration(home, {"echo": CfFile({}, text, fold=True)}, {})) as daemon,
            daemon.socketmap() as client,
        ):
            assert [client.ask("echo", key).status for key in NOT_UTF8] == ["NOTFOUND"] * len(
                NOT_UTF8
            )
            assert (
                client.lookup("echo", "Grüße@example.com".encode()) == "grüsse@example.com".encode()
            )
