"""Lookups that the tests of MysqlDatabase share.

Statements, a mail database, settings with short deadlines, an observer that remembers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from mailmapd.databases.mysql.database import MysqlDatabase
from mailmapd.databases.settings import MysqlSettings
from mailmapd.template.statement import Statement, Value
from support.sql_server import SqlServer

Server = TypeVar("Server", bound=SqlServer)

DBNAME = "lookups"
USER = "reader"
PASSWORD = "pässword'\\\""
SCHEMA = """
CREATE DATABASE lookups;
USE lookups;
CREATE TABLE mailbox (username varchar(255) PRIMARY KEY, maildir varchar(255), quota bigint) CHARACTER SET utf8mb4;
INSERT INTO mailbox VALUES ('user@example.com', 'example.com/user/', 1024), ('empty@example.com', '', NULL);
CREATE TABLE old (username varchar(255) PRIMARY KEY, maildir varchar(255)) CHARACTER SET latin1 COLLATE latin1_swedish_ci;
INSERT INTO old VALUES ('user@example.com', 'old/user/');
"""

HOSTILE = [
    b"'",
    b'"',
    b"\\",
    b"\\'",
    b"' OR '1'='1",
    b"\\' OR 1=1 -- ",
    b"'; DROP TABLE mailbox; -- ",
    b"\xbf'",
    b"\xbf\\' OR 1=1 -- ",
    b"\xbf' OR 1=1 -- ",
    b"\x81' OR 1=1 -- ",
    b"\x95\\",
    b"\xa1'",
    b"\xe5\x5c' OR 1=1 -- ",
    b"\x0a\x0d\x1a\x08",
    b"%_",
    b"/* */ # --",
    "ü€😀".encode(),
    b"\xff\xfe\xfd",
    b"a" * 5000 + b"'",
]
"""Keys that would leave their quotes, or spoil the statement, if quoting went wrong."""

MODES = ["", "ANSI_QUOTES", "NO_BACKSLASH_ESCAPES", "ANSI_QUOTES,NO_BACKSLASH_ESCAPES"]
"""SQL modes that change what quotes and backslashes mean."""


def statement(
    sql: str | bytes, *values: bytes, table: str = "mailbox", require_result_set: bool = True
) -> Statement:
    """Make a statement from SQL with `%s` for each value."""
    texts = (sql.encode() if isinstance(sql, str) else sql).split(b"%s")
    pieces: list[bytes | Value] = [texts[0]]
    for text, value in zip(texts[1:], values, strict=True):
        pieces += [Value(value), text]
    return Statement(table, tuple(pieces), require_result_set)


def mailbox(key: bytes) -> Statement:
    """Make the usual lookup."""
    return statement("SELECT maildir FROM mailbox WHERE username = '%s'", key)


@dataclass
class Record:
    """An observer that keeps what it is told."""

    queries: list[tuple[str, str]] = field(default_factory=list)
    states: list[tuple[str, bool]] = field(default_factory=list)

    def query_finished(self, database: str, host: str, outcome: str, seconds: float) -> None:
        """Keep host and outcome."""
        assert database == "mail"
        assert seconds >= 0
        self.queries.append((host, outcome))

    def host_state(self, database: str, host: str, up: bool) -> None:
        """Keep host and state."""
        assert database == "mail"
        self.states.append((host, up))


def prepare(server: Server) -> Server:
    """Give a fresh server the mail database and its account."""
    server.run_sql(SCHEMA)
    server.grant(USER, PASSWORD, DBNAME)
    return server


def settings_for(*servers: SqlServer, **changes: Any) -> MysqlSettings:
    """Return settings that reach the servers over their UNIX sockets, with short deadlines."""
    settings = MysqlSettings(
        hosts=tuple([f"unix:{server.socket}" for server in servers]),
        user=USER,
        password=PASSWORD,
        dbname=DBNAME,
        connect_timeout=5.0,
        query_timeout=5.0,
        queue_timeout=5.0,
    )
    return replace(settings, **changes)


Connect = Callable[..., MysqlDatabase]
