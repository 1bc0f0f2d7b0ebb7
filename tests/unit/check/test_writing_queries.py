from __future__ import annotations

import pytest

from mailmapd.check.writing_queries import writes, writing_findings


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("INSERT INTO t VALUES (1)", "INSERT INTO"),
        ("insert ignore into t values (1)", "INSERT IGNORE INTO"),
        ("UPDATE t SET a = 1", "UPDATE T SET"),
        ("update `a`.`t` x set a = 1", "UPDATE `A`.`T` X SET"),
        ("BEGIN DELETE FROM t; END", "DELETE FROM"),
        ("REPLACE INTO t VALUES (1)", "REPLACE INTO"),
        ("TRUNCATE TABLE t", "TRUNCATE TABLE T"),
        ("SELECT 1 INTO OUTFILE '/x'", "INTO OUTFILE"),
        ("SELECT REPLACE(a, 'b', 'c'), INSERT(a, 1, 2, 'x') FROM t", ""),
        ("SELECT 'INSERT INTO t' FROM t -- DELETE FROM t\n WHERE a = 1", ""),
        ("SELECT updated, `delete` FROM t /* UPDATE t SET a */", ""),
        ("SELECT 1 FROM t WHERE update_time > 0", ""),
    ],
)
def test_words_that_write(sql: str, words: str) -> None:
    """Statements that write are told from functions, columns, strings and comments of like names."""
    assert writes(sql) == words


@pytest.mark.parametrize(
    ("sql", "codes"),
    [
        ("SELECT a FROM t WHERE b = '%s' LOCK IN SHARE MODE", ["locks"]),
        ("SELECT GET_LOCK('x', 1)", ["locks"]),
        ("SELECT NEXTVAL(s)", ["side_effect"]),
        ("SELECT @a := b FROM t", ["user_variable"]),
        ("SELECT @'a'", ["user_variable"]),
        ("SELECT @@version", []),
        ("SELECT a FROM t WHERE b = 'x@y' AND c = \"@z\"", []),
    ],
)
def test_side_effects(sql: str, codes: list[str]) -> None:
    """Locks, counters and user variables are found, and system variables and addresses are none."""
    assert [finding.code for finding in writing_findings("t", sql)] == codes
