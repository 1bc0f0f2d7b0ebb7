"""The differential oracle: random transactions against lookups, and at rest every kept answer is the database's.

Six installations, three kinds of logins, a tangle of cascades, views and subqueries, and queries that cannot be
followed; transactions that are rolled back or come in two phases, tables that are emptied, altered and swapped. Once
for each image of rows, once compressed, and once with all of that drawn for each transaction, on MariaDB and on
MySQL 9. With any rule of following switched off, the same run finds outdated answers.

    MAILMAPD_ORACLE_ROUNDS=40 pytest tests/integration/changes/test_oracle.py
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from mailmapd.changes import feed, fence, hearing, selection
from mailmapd.changes.catalog import Catalog
from mailmapd.changes.selection import Selection
from mailmapd.changes.touched import Touched
from mailmapd.databases.mysql.binlog import stream
from mailmapd.databases.mysql.binlog.events import ABSENT
from mailmapd.provenance import analysis, equality
from mailmapd.provenance.volatile import volatile
from support.followed_engine import BOTH
from support.mariadb import MariaDB
from support.oracle import oracle
from support.random_changes import Logged
from support.sql_server import SqlServer

pytestmark = [pytest.mark.servers, pytest.mark.root, pytest.mark.timeout(3600)]

ROUNDS = int(os.environ.get("MAILMAPD_ORACLE_ROUNDS", "0"))
SEED = int(os.environ.get("MAILMAPD_ORACLE_SEED", "1"))
TRANSACTIONS = 50  # of each writer in a round
ROUNDS_TO_FIND = 100  # at most; most rules are found in a few
FEW = ("vimbadmin", "tangled")

LOGGED = {
    "FULL": Logged("FULL", compressed=False),
    "MINIMAL": Logged("MINIMAL", compressed=False),
    "NOBLOB": Logged("NOBLOB", compressed=False),
    "compressed": Logged("FULL", compressed=True),
    "drawn": Logged(),
}


@BOTH
@pytest.mark.parametrize("logged", LOGGED)
async def test_nothing_is_outdated(server: SqlServer, tmp_path: Path, logged: str) -> None:
    """Whatever is written, no answer is kept for longer than the ordinary time that the database would not give."""
    how = LOGGED[logged]
    # The short form goes over all databases for each server, and over two of them for each way of logging
    schemas, rounds = ((), ROUNDS or 1) if ROUNDS or logged == "drawn" else (FEW, 0)
    async with oracle(server, tmp_path, schemas) as tried:
        await tried.run(SEED, rounds, TRANSACTIONS, definitions=0.01, ends=0.3, logged=how)
        # Streams that end late leave next to nothing to compare, so the last round ends none
        findings = tried.found
        for attempt in range(1, 6):  # on a busy machine there are few lookups in a round
            findings = await tried.run(
                SEED + attempt, 1, TRANSACTIONS, definitions=0.01, ends=0.0, logged=how
            )
            if findings.compared > 20 * max(1, ROUNDS):
                break
    print(
        f"{findings.compared} entries compared, {len(findings.outdated)} outdated,"
        f" {findings.lookups} lookups; written: {dict(findings.written)}"
    )
    assert findings.outdated == []
    assert findings.compared > 20 * max(1, ROUNDS)


def _no_cascades(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Catalog, "cascading_parents", lambda *_: frozenset())


def _no_definitions(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Selection, "_add_statement", lambda *_: False)


def _no_reverse_queries(patch: pytest.MonkeyPatch) -> None:
    async def ask(*_: object) -> None:
        pass

    patch.setattr(fence, "ask", ask)


def _only_rows_after(patch: pytest.MonkeyPatch) -> None:
    images = selection._images
    patch.setattr(selection, "_images", lambda *given: list(images(*given))[:1])


def _only_bound_columns(patch: pytest.MonkeyPatch) -> None:
    """Take no change for one that is not of a column which is compared with the key."""
    images = selection._images

    def of_bound(reader: Any, change: Any) -> Any:
        before, after = change
        slots = [reader.slots[column] for column in reader.reading.bound]
        if before and after and all(after[slot] == before[slot] for slot in slots):
            return []
        return images(reader, change)

    patch.setattr(selection, "_images", of_bound)


def _no_parts_of_keys(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Touched, "add_parts", lambda *_: None)


def _no_letter_case(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(selection, "normal", lambda value: value)


def _no_absent_columns(patch: pytest.MonkeyPatch) -> None:
    """Let a row that lacks a column in its image fit nothing that is compared with the column."""
    fitting = selection._fitting

    def of_present(alternative: Any, image: Any, slots: Any) -> Any:
        if any(image[slots[binding.column]] is ABSENT for binding in alternative):
            return []
        return fitting(alternative, image, slots)

    patch.setattr(selection, "_fitting", of_present)


def _no_collations(patch: pytest.MonkeyPatch) -> None:
    """Take every collation for one that equates letter case and nothing else."""
    patch.setattr(equality, "_UNPROVEN_COLLATION", re.compile("(?!)"))


def _trust(patch: pytest.MonkeyPatch, *names: str) -> None:
    """Take what depends on these for something that only rows change."""

    def others(tree: Any) -> Iterator[str]:
        return (name for name in volatile(tree) if not name.endswith(names))

    patch.setattr(analysis, "volatile", others)


def _no_clock(patch: pytest.MonkeyPatch) -> None:
    _trust(patch, "NOW()", "CURRENT_TIMESTAMP")


def _no_chance(patch: pytest.MonkeyPatch) -> None:
    _trust(patch, "RAND()")


def _no_routines(patch: pytest.MonkeyPatch) -> None:
    _trust(patch, "GOTO_OF()")


def _no_new_catalog(patch: pytest.MonkeyPatch) -> None:
    async def nothing(*_: object) -> None:
        pass

    patch.setattr(feed.Feed, "_read_again", nothing)
    patch.setattr(Selection, "_add_altered", lambda *_: None)


class Rule(NamedTuple):
    """A rule to be switched off, a database where that shows, and the shares for `Oracle.run`."""

    switch_off: Callable[[pytest.MonkeyPatch], None]
    schema: str
    definitions: float = 0.0
    ends: float = 0.0
    logged: Logged = Logged()


RULES = [
    Rule(_no_cascades, "ispmail"),
    Rule(_no_definitions, "postfixadmin", 0.2),
    Rule(_no_reverse_queries, "iredmail"),
    Rule(_only_rows_after, "vimbadmin"),
    Rule(_only_bound_columns, "vimbadmin"),
    Rule(_no_parts_of_keys, "postfixadmin"),
    Rule(_no_letter_case, "vimbadmin"),
    Rule(_no_absent_columns, "vimbadmin", logged=LOGGED["MINIMAL"]),
    Rule(_no_collations, "loose"),
    Rule(_no_clock, "loose"),
    Rule(_no_chance, "loose"),
    Rule(_no_routines, "loose"),
    Rule(_no_new_catalog, "vimbadmin", 0.2),
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.switch_off.__name__[1:])
async def test_each_rule(
    mariadb: MariaDB, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rule: Rule
) -> None:
    """With a rule switched off, the oracle finds outdated answers: so it would find a rule that is missing."""
    rule.switch_off(monkeypatch)
    async with oracle(mariadb, tmp_path, (rule.schema,)) as tried:
        findings = await tried.run(
            2,
            ROUNDS_TO_FIND,
            50,
            definitions=rule.definitions,
            ends=rule.ends,
            logged=rule.logged,
        )
    assert findings.outdated


@pytest.mark.parametrize("forgotten", [True, False], ids=["forgotten", "passed over"])
async def test_in_bulk(
    mariadb: MariaDB, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forgotten: bool
) -> None:
    """Readers of a table that changes in bulk are forgotten; if not, what its passed-over rows change is outdated."""
    monkeypatch.setattr(hearing, "BULK", 1)
    monkeypatch.setattr(stream, "_TOGETHER", 0.0)  # each event is told before the next is read
    if not forgotten:
        count = hearing.Hearing._count

        def only_pass_over(
            self: hearing.Hearing, schema: str, table: str, rows: int, _: Touched
        ) -> None:
            count(self, schema, table, rows, Touched())

        monkeypatch.setattr(hearing.Hearing, "_count", only_pass_over)
    keys = [f"{name}@example.com" for name in "abc"]
    rows = ", ".join(f"('{key}', 'old')" for key in keys)
    updates = "; ".join(
        f"UPDATE email_aliase SET destination = 'new' WHERE aliase = '{key}'" for key in keys
    )
    async with oracle(mariadb, tmp_path, ("tutorial",)) as tried:
        mariadb.run_sql(f"INSERT INTO email_aliase VALUES {rows}", database="s_tutorial")
        await tried.rest()
        table = tried.engine.tables["tutorial-mysql-mailaliase"]
        async with asyncio.timeout(
            30
        ):  # an answer that comes while changes are heard of is not kept
            for key in keys:
                while table.cache.peek(key.encode()) is None:
                    await table.get(key.encode())
        mariadb.run_sql(f"BEGIN; {updates}; COMMIT", database="s_tutorial")
        await tried.rest()
        await tried.compare()
    assert bool(tried.found.outdated) is not forgotten
