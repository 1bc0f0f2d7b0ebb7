"""Queries that write, lock, or answer by what they did before.

A remembered answer stands for one that would have been given; a query that changes something is
not sent as often as Postfix or Dovecot would send it, and one with user variables depends on what
its connection was asked before. The text gives most of it away; what routines do, their bodies say
(`routines`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from mailmapd.check.finding import Finding, Level
from mailmapd.template.sql_lexer import code_of

_WRITING = re.compile(
    r"\b(INSERT\s+(?:\w+\s+)*?INTO|INSERT\s+\w+|UPDATE\s+(?:LOW_PRIORITY\s+|IGNORE\s+)*[\w`.]+\s+(?:\w+\s+)?SET|DELETE\s+FROM"
    r"|REPLACE\s+INTO|REPLACE\s+(?!\()\w+|TRUNCATE\s+(?:TABLE\s+)?\w+|LOAD\s+DATA|INTO\s+(?:OUT|DUMP)FILE"
    r"|(?:CREATE|DROP|ALTER|RENAME)\s+(?:TEMPORARY\s+)?(?:TABLE|VIEW|INDEX|DATABASE|USER))\b",
    re.IGNORECASE,
)
_LOCKING = re.compile(
    r"\bFOR\s+(?:UPDATE|SHARE)\b|\bLOCK\s+IN\s+SHARE\s+MODE\b|\b(?:GET_LOCK|RELEASE_LOCK|RELEASE_ALL_LOCKS)\s*\(",
    re.IGNORECASE,
)
_COUNTING = re.compile(
    r"\b(?:NEXTVAL|SETVAL|NEXT\s+VALUE\s+FOR|LAST_INSERT_ID|SLEEP|BENCHMARK)\b", re.IGNORECASE
)
_VARIABLE = re.compile(r":=|(?<![@\w])@[\w`'\"$.]")


def writes(sql: str) -> str:
    """Return the words with which SQL writes, or nothing."""
    match = _WRITING.search(code_of(sql))
    return "" if match is None else " ".join(match[0].upper().split())


def writing_findings(name: str, query: str) -> Iterator[Finding]:
    """Yield how a query changes something, or depends on what was asked before."""
    where = f"table {name}"
    bare = code_of(query)
    words = writes(query)
    if words:
        problem = f"the query writes ({words}): it is not sent for every lookup, because answers are remembered"
        remedy = "let it read only, and write elsewhere"
        yield Finding(Level.FAULT, "writes", where, problem, remedy)
    lock = _LOCKING.search(bare)
    if lock:
        problem = f"the query takes a lock ({' '.join(lock[0].upper().split()).rstrip('( ')})"
        remedy = "remove the clause: nothing is changed behind it"
        yield Finding(Level.WARNING, "locks", where, problem, remedy)
    counting = _COUNTING.search(bare)
    if counting:
        word = " ".join(counting[0].upper().split())
        problem = f"{word} does something at each lookup, and a remembered answer does it once"
        yield Finding(Level.WARNING, "side_effect", where, problem, "write the query without it")
    if _VARIABLE.search(bare):
        problem = "the query uses a user variable (@…): its answer depends on what the connection was asked before"
        remedy = "write it without variables, for instance with a subquery"
        yield Finding(Level.WARNING, "user_variable", where, problem, remedy)
