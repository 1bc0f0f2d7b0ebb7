"""Postfix's own mysql: tables and the daemon's, asked the same random keys of the same random .cf files."""

from __future__ import annotations

import itertools
import os
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.daemon import Daemon
from support.mariadb import MariaDB, private_directory
from support.postfix import Postfix
from support.random_tables import CfFile, RandomTables

SEED = int(os.environ.get("MAILMAPD_TEST_SEED") or random.SystemRandom().randrange(10**9))
KEYS_PER_TABLE = 60
PARALLEL = 4
DIFFERENCES_SHOWN = 5
LONGEST_VALUE = 99_997  # bytes: socketmap_table(5)'s limit for a reply, less its "OK "; a longer one must fail, whatever mysql: says


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


def configuration(directory: Path, files: dict[str, Path], tables: dict[str, CfFile]) -> str:
    """Return a mailmapd.toml that serves every .cf file as a map of its own."""
    lines = [f'[listen]\nsocketmap = ["unix:{directory}/socketmap"]\n']
    for name, path in files.items():
        fold = "" if tables[name].fold else "fold = false\n"
        lines.append(f'[table.{name}]\npostfix_cf = "{path}"\n{fold}[map.{name}]\ntables = ["{name}"]\nsearch = "exact"\n')
    return "".join(lines)


class Comparison:
    """Asks `postmap` the same keys of two maps, and counts what came of it."""

    def __init__(self, postfix: Postfix, theirs: str, ours: str, *options: str) -> None:
        self._postfix = postfix
        self._maps = (theirs, ours)
        self._options = options
        self.found = self.failed = 0

    def differences(self, keys: list[bytes]) -> Iterator[Difference]:
        """Yield what differs; where a side ends in an error, compare by halves, because postmap stops at its first error."""
        theirs, ours = (self._postfix.postmap(table, keys, *self._options) for table in self._maps)
        if not theirs.failed and not ours.failed and theirs.found == ours.found:
            self.found += sum(theirs.found.startswith(key + b"\t") or b"\n" + key + b"\t" in theirs.found for key in keys)
        elif len(keys) > 1:
            yield from self.differences(keys[: len(keys) // 2])
            yield from self.differences(keys[len(keys) // 2 :])
        elif ours.failed and (theirs.failed or len(theirs.found) - len(keys[0]) - 2 > LONGEST_VALUE):
            self.failed += 1
        else:
            yield Difference(keys[0], f"{ours.found!r} {ours.errors}", f"{theirs.found!r} {theirs.errors}")


def report(mode: str, name: str, cf: CfFile, found: list[Difference]) -> str:
    """Tell one table's differences so that they can be run again."""
    lines = [f"MAILMAPD_TEST_SEED={SEED}, SQL mode {mode}, table {name}, fold {cf.fold}, the first {len(found)} differences:", cf.text]
    lines += [f"  key {item.key[:200]!r}\n    Postfix: {item.theirs[:600]}\n    mailmapd: {item.ours[:600]}" for item in found]
    return "\n".join(lines)


@pytest.mark.servers
@pytest.mark.parametrize("mode", MODES)
def test_random_tables_answer_as_postfix_does(mode: str) -> None:
    """Every random key of every random table gets the answer of Postfix's own mysql: map, in every SQL mode."""
    generator = RandomTables(SEED + list(MODES).index(mode), MODES[mode].quotes)
    with (
        private_directory() as data,
        private_directory() as home,
        private_directory() as instance,
        MariaDB(data, sql_mode=MODES[mode].sql_mode) as server,
    ):
        generator.fill(server)
        tables = {f"t{number:03}": generator.cf_file(server, home) for number in range(MODES[mode].tables)}
        files = {name: home / f"{name}.cf" for name in tables}
        for name, path in files.items():
            path.write_text(tables[name].text)
        postfix = Postfix(instance, {})
        comparisons = {
            name: Comparison(postfix, f"mysql:{path}", f"socketmap:unix:{home}/socketmap:{name}", *([] if tables[name].fold else ["-f"]))
            for name, path in files.items()
        }
        asked = [generator.keys(KEYS_PER_TABLE) for _ in tables]

        def compare(comparison: Comparison, keys: list[bytes]) -> list[Difference]:
            return list(itertools.islice(comparison.differences(keys), DIFFERENCES_SHOWN))

        with Daemon(home, configuration(home, files, tables)) as daemon, ThreadPoolExecutor(PARALLEL) as threads:
            results = dict(zip(tables, threads.map(compare, comparisons.values(), asked), strict=True))
            log = daemon.text()
    total, found = KEYS_PER_TABLE * len(tables), sum(comparison.found for comparison in comparisons.values())
    failed = sum(comparison.failed for comparison in comparisons.values())
    print(f"seed {SEED}, SQL mode {mode}: {total} comparisons, {found} found, {failed} errors on both sides")
    reports = [report(mode, name, tables[name], differing) for name, differing in results.items() if differing]
    assert not reports, f"{len(reports)} tables differ\n\n" + "\n\n".join(reports[:10]) + f"\n\nmailmapd's log:\n{log[-4000:]}"
    assert found > total / 10, "too few keys were found for the comparison to mean much"
