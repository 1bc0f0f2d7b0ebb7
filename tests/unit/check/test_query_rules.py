"""What the text of a query gives away."""

from __future__ import annotations

import pytest

from mailmapd.check.query_rules import maps_to_itself, query_findings
from mailmapd.config.schema import CacheSection, Seconds


def codes(query: str, ttl: float = 300.0, *, dovecot: bool = False) -> list[str]:
    """Return the codes of the findings."""
    return [
        finding.code
        for finding in query_findings("t", query, CacheSection(ttl=Seconds(ttl)), dovecot=dovecot)
    ]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("SELECT a FROM t WHERE b = '%s'", []),
        ("SELECT a FROM t WHERE b = '%s' AND c > NOW()", ["time_dependent"]),
        ("SELECT a FROM t WHERE b = '%s' AND validity >= UNIX_TIMESTAMP()", ["time_dependent"]),
        ("SELECT a FROM t WHERE b = '%s' AND c > curdate()", ["time_dependent"]),
        ("SELECT a FROM t WHERE b = '%s' AND c <> 'NOW()'", []),
        ("SELECT a FROM t WHERE b = '%s' ORDER BY RAND()", ["random"]),
        ("SELECT a FROM t WHERE '%s' REGEXP pattern", ["pattern_column"]),
        ("SELECT a FROM t WHERE '%s' LIKE t.pattern", ["pattern_column"]),
        ("SELECT a FROM t WHERE '%s' LIKE CONCAT('%%@', domain)", ["pattern_column"]),
        (
            "SELECT a FROM t WHERE '%s' LIKE REPLACE(CONCAT('%%@', t.d), '*', '%%')",
            ["pattern_column"],
        ),
        ("SELECT a FROM t WHERE '%s' RLIKE BINARY `pattern`", ["pattern_column"]),
        ("SELECT a FROM t WHERE b LIKE BINARY '%s'", []),
        ("SELECT a FROM t WHERE b LIKE LOWER('%s') AND c = 1", []),
        ("SELECT a FROM t WHERE b LIKE CONCAT('%u', '@', LOWER('%d'))", []),
        ("SELECT a FROM t WHERE b = '%s' AND c LIKE 'smtp%%'", []),
        ("SELECT a FROM t WHERE b = %s", ["unquoted"]),
        ("SELECT a FROM t WHERE b = 'x' AND c LIKE '50%%'", ["constant"]),
    ],
)
def test_each_habit_is_told_from_harmless_text(query: str, expected: list[str]) -> None:
    """A finding comes from the SQL itself, not from what stands between quotes."""
    assert codes(query) == expected


def test_a_short_memory_makes_time_harmless() -> None:
    """An answer that depends on the time is fine when it is remembered for a minute at most."""
    assert codes("SELECT a FROM t WHERE b = '%s' AND c > NOW()", ttl=30.0) == []


def test_dovecots_queries_may_build_names() -> None:
    """In Dovecot's queries variables may stand in column names, and a list of users needs none."""
    assert codes("SELECT a FROM t WHERE u = '%u' AND enable%Ls%Lc = 1", dovecot=True) == []


@pytest.mark.parametrize(
    ("query", "itself"),
    [
        ("SELECT email FROM users WHERE email='%s'", True),
        ("select mail_account from email_user where mail_account = '%s' and active = 1;", True),
        ("SELECT goto FROM alias WHERE address='%s'", False),
        ("SELECT email FROM users WHERE email='%s' OR alias='%s'", False),
    ],
)
def test_queries_that_answer_with_their_own_key(query: str, itself: bool) -> None:
    """A query that can only return its key is known as such."""
    assert maps_to_itself(query) is itself
