"""The differential oracle: random transactions against lookups, and at rest every kept answer is the database's.

Six installations, three kinds of logins and a tangle of cascades, views and subqueries; rows in every image, compressed
or not, transactions that are rolled back or come in two phases, tables that are emptied, altered and swapped. With any
rule of following switched off, the same run finds outdated answers.

    MAILMAPD_ORACLE_ROUNDS=200 pytest tests/integration/changes/test_oracle.py
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from mailmapd.changes import feed, selection
from mailmapd.changes.catalog import Catalog
from mailmapd.changes.forgetting import Forgetting
from mailmapd.changes.selection import Selection
from mailmapd.changes.touched import Touched
from support.mariadb import MariaDB
from support.oracle import oracle
from support.sql_server import SqlServer

pytestmark = [pytest.mark.servers, pytest.mark.root, pytest.mark.timeout(3600)]

ROUNDS = int(os.environ.get("MAILMAPD_ORACLE_ROUNDS", "2"))
SEED = int(os.environ.get("MAILMAPD_ORACLE_SEED", "1"))
TRANSACTIONS = 50  # of each writer in a round
ROUNDS_TO_FIND = 40


@pytest.fixture(params=["MariaDB", "MySQL 9"])
def server(request: pytest.FixtureRequest) -> SqlServer:
    found: SqlServer = request.getfixturevalue("mariadb" if request.param == "MariaDB" else "mysql")
    return found


async def test_nothing_is_outdated(server: SqlServer, tmp_path: Path) -> None:
    """Whatever is written, no answer is kept for longer than the ordinary time that the database would not give."""
    async with oracle(server, tmp_path) as one:
        await one.run(SEED, ROUNDS, TRANSACTIONS, 0.01, 0.3)
        # Streams that end late leave next to nothing to compare, so the last round ends none
        findings = await one.run(SEED + 1, 1, TRANSACTIONS, 0.01, 0.0)
    print(
        f"{findings.compared} entries compared, {len(findings.outdated)} outdated,"
        f" {findings.lookups} lookups; written: {dict(findings.written)}"
    )
    assert findings.outdated == []
    assert findings.compared > 50 * ROUNDS


def _no_cascades(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Catalog, "cascading_parents", lambda *_: frozenset())


def _no_definitions(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Selection, "_add_statement", lambda *_: False)


def _no_reverse_queries(patch: pytest.MonkeyPatch) -> None:
    async def ask(*_: object) -> None:
        pass

    patch.setattr(feed, "ask", ask)


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


def _no_new_catalog(patch: pytest.MonkeyPatch) -> None:
    async def nothing(*_: object) -> None:
        pass

    patch.setattr(feed.Feed, "_read_again", nothing)
    patch.setattr(Selection, "_add_altered", lambda *_: None)


def _no_distrust(patch: pytest.MonkeyPatch) -> None:
    """Believe for a day what was known when the stream ended."""
    patch.setattr(Forgetting, "distrust", lambda *_: None)
    patch.setattr(feed, "RETRY", 0.3)


class Rule(NamedTuple):
    """A rule to be switched off, a database where that shows, and the shares for `Oracle.run`."""

    switch_off: Callable[[pytest.MonkeyPatch], None]
    schema: str
    definitions: float = 0.0
    ends: float = 0.0


RULES = [
    Rule(_no_cascades, "ispmail"),
    Rule(_no_definitions, "postfixadmin", 0.2),
    Rule(_no_reverse_queries, "iredmail"),
    Rule(_only_rows_after, "vimbadmin"),
    Rule(_only_bound_columns, "vimbadmin"),
    Rule(_no_parts_of_keys, "postfixadmin"),
    Rule(_no_letter_case, "vimbadmin"),
    Rule(_no_new_catalog, "vimbadmin", 0.1),
    Rule(_no_distrust, "vimbadmin", ends=1.0),
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.switch_off.__name__[1:])
async def test_each_rule(
    mariadb: MariaDB, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rule: Rule
) -> None:
    """With a rule switched off, the oracle finds outdated answers: so it would find a rule that is missing."""
    rule.switch_off(monkeypatch)
    async with oracle(mariadb, tmp_path, (rule.schema,)) as one:
        findings = await one.run(2, ROUNDS_TO_FIND, 50, rule.definitions, rule.ends)
    assert findings.outdated
