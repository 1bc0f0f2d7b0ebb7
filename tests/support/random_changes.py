"""Random transactions over mail databases, and random keys to look up meanwhile.

Values are made by what a column is called and holds, from so few addresses and domains that rows meet each other and
the keys that are asked for. Statements that a server refuses (a duplicate, a foreign key, a deadlock) roll their
transaction back. Everything comes from one `random.Random`, so a seed names a run, as far as two writers do not meet.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pymysql
from pymysql.cursors import Cursor

from support.mariadb import MariaDB
from support.sql_server import SqlServer

DOMAINS = ("example.com", "b.example", "sub.example.com", "relay.example")
USERS = ("user", "alice", "info", "o'neil", "x")
ADDRESSES = tuple(f"{user}@{domain}" for domain in DOMAINS for user in USERS)
CATCH_ALLS = tuple(f"@{domain}" for domain in DOMAINS)
IDS = range(1, 5)

_OF_ADDRESSES = frozenset(
    (
        *("address", "goto", "username", "email", "source", "destination", "forwarding"),
        *("bcc_address", "account", "mail_account", "aliase", "email_full", "child", "parent"),
    )
)
_OF_DOMAINS = frozenset(("domain", "alias_domain", "target_domain", "name", "mail_domain"))
_IMAGES = (*["FULL"] * 6, "MINIMAL", "NOBLOB")
"""With the smallest image most updates drop all of a table, so that there is little left to be wrong."""


@dataclass(frozen=True)
class Logged:
    """The way rows are logged: in which image, compressed or not; what is None is drawn for each transaction."""

    image: str | None = None
    compressed: bool | None = None


@dataclass(frozen=True)
class _Column:
    name: str
    type: str
    definition: str
    counts_up: bool
    may_be_null: bool


@dataclass(frozen=True)
class _Table:
    schema: str
    name: str
    columns: tuple[_Column, ...]
    is_tied: bool  # by a foreign key

    @property
    def full_name(self) -> str:
        return f"`{self.schema}`.`{self.name}`"


class RandomChanges:
    """Transactions of one writer. `definitions` is the share of those that swap, empty or alter tables."""

    def __init__(
        self,
        server: SqlServer,
        schemas: tuple[str, ...],
        seed: int,
        definitions: float,
        logged: Logged,
    ) -> None:
        self.done: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self._server = server
        self._random = random.Random(seed)
        self._definitions = definitions
        self._logged = logged
        self._tables = _tables(server, schemas)
        self._mariadb = isinstance(server, MariaDB)

    def write(self, transactions: int) -> None:
        """Write so many transactions, in a thread of its own."""
        with self._server.connect(autocommit=False) as connection, connection.cursor() as cursor:
            for _ in range(transactions):
                self._transaction(connection, cursor)

    def _transaction(self, connection: pymysql.connections.Connection[Any], cursor: Cursor) -> None:
        draw = self._random.random()
        kind = "transaction"
        try:
            image = self._logged.image or self._random.choice(_IMAGES)
            cursor.execute(f"SET SESSION binlog_row_image = {image}")
            compressed = self._logged.compressed
            self._compress(
                cursor, self._random.random() < 0.5 if compressed is None else compressed
            )
            if draw < self._definitions:
                kind = "definition"
                for sql in self._definition():
                    cursor.execute(sql)
            elif draw < self._definitions + 0.003:
                kind = "in two phases"
                self._in_two_phases(cursor)
            else:
                self._rows(cursor)
                ends = self._random.random() < 0.9
                connection.commit() if ends else connection.rollback()
                kind = kind if ends else "rolled back"
            self.done[kind] += 1
        except pymysql.Error as error:
            self.refused[str(error)[:60]] += 1
            with suppress(pymysql.Error):
                connection.rollback()

    def _compress(self, cursor: Cursor, compressed: bool) -> None:
        on = "ON" if compressed else "OFF"
        if self._mariadb:
            cursor.execute(
                f"SET GLOBAL log_bin_compress = {on}, GLOBAL log_bin_compress_min_len = 10"
            )
        else:
            cursor.execute(f"SET SESSION binlog_transaction_compression = {on}")

    def _rows(self, cursor: Cursor) -> None:
        saved = self._random.random() < 0.1
        for _ in range(self._random.randint(1, 3)):
            cursor.execute(self._statement(self._random.choice(self._tables)))
        if saved:
            cursor.execute("SAVEPOINT s")
            cursor.execute(self._statement(self._random.choice(self._tables)))
            cursor.execute("ROLLBACK TO SAVEPOINT s")
            cursor.execute(self._statement(self._random.choice(self._tables)))

    def _in_two_phases(self, cursor: Cursor) -> None:
        cursor.execute("XA START 'x'" if self._random.random() < 0.5 else "XA BEGIN 'x'")
        try:
            cursor.execute(self._statement(self._random.choice(self._tables)))
        finally:
            cursor.execute("XA END 'x'")
            cursor.execute("XA PREPARE 'x'")
            cursor.execute(f"XA {self._random.choice(('COMMIT', 'ROLLBACK'))} 'x'")

    def _definition(self) -> Iterator[str]:
        """Yield statements that leave the table there, with other rows or columns."""
        table = self._random.choice([table for table in self._tables if not table.is_tied])
        name, other = table.full_name, f"`{table.schema}`.`other`"
        match self._random.randrange(5):
            case 0:
                yield f"TRUNCATE TABLE {name}"
            case 1:
                yield f"ALTER TABLE {name} ADD COLUMN more INT FIRST"
                yield self._statement(table)
                yield f"ALTER TABLE {name} DROP COLUMN more"
            case 2:
                yield f"DROP TABLE IF EXISTS {other}"
                yield f"CREATE TABLE {other} LIKE {name}"
                yield f"INSERT INTO {other} SELECT * FROM {name} LIMIT 3"
                yield f"RENAME TABLE {name} TO `{table.schema}`.`old`, {other} TO {name}"
                yield f"DROP TABLE `{table.schema}`.`old`"
            case 3:
                column = self._random.choice(
                    [column for column in table.columns if not column.counts_up]
                )
                null = "NULL" if column.may_be_null else "NOT NULL"
                yield f"ALTER TABLE {name} MODIFY COLUMN `{column.name}` {column.definition} {null} FIRST"
                yield self._statement(table)
            case _:
                yield f"DELETE FROM {name}"

    def _statement(self, table: _Table) -> str:
        """Return a statement that changes some rows of a table."""
        name = table.full_name
        draw = self._random.random()
        if draw < 0.4:
            verb = self._random.choice(("INSERT", "INSERT IGNORE", "REPLACE", "REPLACE"))
            columns = self._some_columns(table)
            rows = ", ".join(
                "(" + ", ".join(self._value(column) for column in columns) + ")"
                for _ in range(self._random.randint(1, 3))
            )
            names = ", ".join(f"`{column.name}`" for column in columns)
            update = ""
            if verb == "INSERT":
                column = self._random.choice(columns)
                update = f" ON DUPLICATE KEY UPDATE `{column.name}` = {self._value(column)}"
            return f"{verb} INTO {name} ({names}) VALUES {rows}{update}"
        where = self._condition(table)
        if draw < 0.8:
            changed = self._random.choice(table.columns)
            ignore = self._random.choice(("", "IGNORE "))
            return f"UPDATE {ignore}{name} SET `{changed.name}` = {self._value(changed)}{where}"
        return f"DELETE FROM {name}{where}"

    def _some_columns(self, table: _Table) -> list[_Column]:
        """Return the columns that an inserted row names: a number that counts up by itself is often left out."""
        return [
            column
            for column in table.columns
            if not column.counts_up or table.is_tied or self._random.random() < 0.3
        ]

    def _condition(self, table: _Table) -> str:
        column = self._random.choice(table.columns)
        limit = self._random.choice((*[" LIMIT 1"] * 9, ""))
        return f" WHERE `{column.name}` = {self._value(column)}{limit}"

    def _value(self, column: _Column) -> str:
        if column.may_be_null and self._random.random() < 0.1:
            return "NULL"
        if column.name in _OF_ADDRESSES:
            pool = self._random.choice((ADDRESSES, ADDRESSES, ADDRESSES, CATCH_ALLS, DOMAINS))
            return self._quoted(self._random.choice(pool))
        if column.name in _OF_DOMAINS:
            return self._quoted(self._random.choice(DOMAINS))
        if column.name == "local_part":
            return self._quoted(self._random.choice(USERS))
        if column.type == "tinyint":
            return self._random.choice("0111")
        if column.type == "enum":
            return self._random.choice(("'Y'", "'N'"))
        if column.type in {"int", "bigint"}:
            return str(self._random.choice(IDS))
        return f"'v{self._random.randrange(10_000)}'"

    def _quoted(self, text: str) -> str:
        """Return a string, now and then in the way in which a person wrote it."""
        draw = self._random.random()
        if draw < 0.05:
            text = text.title()
        elif draw < 0.08:
            text += " "
        elif draw < 0.12:
            text = text.replace("i", "y")  # the same letter in Lithuanian
        return "'" + text.replace("'", "''") + "'"


def _tables(server: SqlServer, schemas: tuple[str, ...]) -> list[_Table]:
    names = ", ".join(f"'{schema}'" for schema in schemas)
    tied = {
        (schema, table)
        for row in server.run_sql(
            "SELECT table_schema, table_name, referenced_table_name FROM information_schema.key_column_usage"
            f" WHERE table_schema IN ({names}) AND referenced_table_name IS NOT NULL"
        )
        for schema, table in ((row[0], row[1]), (row[0], row[2]))
    }
    columns: dict[tuple[str, str], list[_Column]] = {}
    for schema, table, name, kind, definition, extra, nullable in server.run_sql(
        "SELECT c.table_schema, c.table_name, c.column_name, c.data_type, c.column_type, c.extra, c.is_nullable"
        " FROM information_schema.columns c JOIN information_schema.tables t"
        " ON t.table_schema = c.table_schema AND t.table_name = c.table_name"
        f" WHERE t.table_type = 'BASE TABLE' AND c.table_schema IN ({names})"
        " ORDER BY c.table_schema, c.table_name, c.ordinal_position"
    ):
        column = _Column(name, kind, definition, "auto_increment" in extra, nullable == "YES")
        columns.setdefault((schema, table), []).append(column)
    return [
        _Table(*name, tuple(of_table), name in tied)
        for name, of_table in columns.items()
        if name[1] not in {"mark", "other", "old"}
    ]


def random_sql_key(
    draw: random.Random, sql_key: Callable[[dict[str, bytes]], bytes | None]
) -> bytes | None:
    """Return the SQL key of a random address, domain or login, or None when the query has none for it."""
    user = draw.choice((*ADDRESSES, *ADDRESSES, *CATCH_ALLS, *DOMAINS))
    service = draw.choice((b"imap", b"pop3", b"lmtp"))
    return sql_key({"user": user.encode(), "service": service, "secured": b""})
