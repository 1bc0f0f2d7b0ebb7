"""Random mysql_table(5) files, rows and keys, for comparing what two readers of the same files answer.

Everything comes from one `random.Random`, so a seed names a whole run. Templates stay within what a
server answers the same way twice: no random order, no time, no unquoted keys.
"""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from support.mariadb import MariaDB
from support.table_samples import (
    CALLS,
    COLUMNS,
    CONDITIONS,
    DOMAIN_LISTS,
    DOMAINS,
    ECHOES,
    LOCALS,
    NOT_UTF8,
    RESULT_FORMATS,
)

USER = "reader"
PASSWORD = "p#ss 'w\"rd\\ $x"
DATABASE = "random_tables"

SCHEMA = f"""
DROP DATABASE IF EXISTS {DATABASE};
CREATE DATABASE {DATABASE} CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
CREATE TABLE {DATABASE}.entry (
  id int PRIMARY KEY, address varchar(255), local varchar(128), domain varchar(128), destination varchar(2000) NULL, other text NULL,
  number int NULL, octets varbinary(64) NULL, attributes json NULL, flag boolean NULL, moment datetime NULL, amount decimal(10, 3) NULL,
  caseless varchar(255) COLLATE utf8mb4_general_ci, INDEX (address), INDEX (domain)
);
CREATE TABLE {DATABASE}.western (
  id int PRIMARY KEY, address varchar(255), local varchar(128), domain varchar(128), destination varchar(255) NULL
) CHARACTER SET latin1 COLLATE latin1_swedish_ci;
CREATE PROCEDURE {DATABASE}.find(IN wanted varchar(2000)) SELECT destination FROM {DATABASE}.entry WHERE address = wanted ORDER BY id;
CREATE PROCEDURE {DATABASE}.quiet(IN wanted varchar(2000)) SET @quiet = wanted;
CREATE PROCEDURE {DATABASE}.twice(IN wanted varchar(2000)) BEGIN SELECT 1; SELECT 2; END;
"""


COLUMN_NAMES = (
    "id",
    "address",
    "local",
    "domain",
    "destination",
    "other",
    "number",
    "octets",
    "attributes",
    "flag",
    "moment",
    "amount",
    "caseless",
)


@dataclass(frozen=True)
class CfFile:
    """One generated file: its parameters as they are meant, the text as an administrator might have written them."""

    parameters: dict[str, str]
    text: str
    fold: bool


class RandomTables:
    """The generator.

    `quotes` are the string delimiters that queries may use, `usable` tells which queries the
    database understands.
    """

    def __init__(
        self, seed: int, quotes: str = "'", usable: Callable[[str], bool] | None = None
    ) -> None:
        self._random = random.Random(seed)
        self._quotes = quotes
        self._usable = usable
        self.addresses = [self._address() for _ in range(250)]

    def fill(self, server: MariaDB) -> dict[str, str]:
        """Create the database with random rows and the account that may read it.

        Return the parameters that name them in a .cf file.
        """
        server.run_sql(SCHEMA)
        rows = self._rows()
        connection = server.connect(DATABASE)
        with connection, connection.cursor() as cursor:
            cursor.execute("SET SESSION sql_mode = ''")
            cursor.executemany(f"INSERT INTO entry VALUES ({', '.join(['%s'] * 13)})", rows)
            cursor.executemany(
                "INSERT IGNORE INTO western VALUES (%s, %s, %s, %s, %s)", [row[:5] for row in rows]
            )
        server.grant(USER, PASSWORD, DATABASE)
        return {
            "hosts": f"unix:{server.socket}",
            "user": USER,
            "password": PASSWORD,
            "dbname": DATABASE,
        }

    def fill_sqlite(self, path: Path) -> dict[str, str]:
        """Create a SQLite file with random rows; return the parameter that names it in a .cf file."""
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute(f"CREATE TABLE entry ({', '.join(COLUMN_NAMES)})")
            connection.executemany(
                f"INSERT INTO entry VALUES ({', '.join('?' * len(COLUMN_NAMES))})", self._rows()
            )
        return {"dbpath": str(path)}

    def _rows(self) -> list[tuple[object, ...]]:
        return [(number, *self._row(address)) for number, address in enumerate(self.addresses, 1)]

    def _row(self, address: str) -> tuple[object, ...]:
        """Return all columns but the id for one address."""
        pick = self._random.choice
        local, _, domain = address.rpartition("@")
        destination = pick(
            [
                None,
                "",
                "x",
                pick(self.addresses),
                f"{pick(self.addresses)},{pick(self.addresses)}",
                "@other.example",
                "a@",
            ]
        )
        destination = pick(
            [
                destination,
                pick(LOCALS),
                "450 try later",
                "one@x.example two@y.example",
                "@",
                "zoë@bücher.example",
                "a@b@c",
            ]
        )
        attributes = pick(
            [None, '{"owner": "alice", "quota": 5}', '{"owner": null}', '{"quota": "ü"}']
        )
        moment = pick([None, "2024-02-29 23:59:59", "1970-01-01 00:00:00"])
        raw = pick([None, b"", b"abc", b"\xff\xfe", "ü".encode(), b"a\nb"])
        last = (
            attributes,
            pick([None, True, False]),
            moment,
            pick([None, "0.5", "-12.250"]),
            address,
        )
        return (
            address,
            local,
            domain,
            destination,
            pick([None, "", "other", pick(LOCALS)]),
            pick([None, 0, 7, 99]),
            raw,
            *last,
        )

    def _address(self) -> str:
        """Return an address as a database holds it: folded more often than not."""
        local, domain = self._random.choice(LOCALS), self._random.choice(DOMAINS)
        address = self._random.choice(
            [f"{local}@{domain}"] * 6 + [local, domain, f"@{domain}", f"{local}@x@{domain}"]
        )
        return address if self._random.random() < 0.2 else address.casefold()

    def keys(self, count: int) -> list[bytes]:
        """Return random keys: addresses that rows have, variants of them, parts, oddities, and
        bytes that are not UTF-8.
        """
        return [self._key() for _ in range(count)]

    def _key(self) -> bytes:
        pick = self._random.choice
        local, domain = pick(LOCALS), pick(DOMAINS)
        choice = self._random.random()
        if choice < 0.45:
            known = pick(self.addresses)
            return pick(
                [known, known, known.upper(), known.swapcase(), known + pick([" ", ".", "x", "\\"])]
            ).encode()
        if choice < 0.75:
            return pick(
                [
                    f"{local}@{domain}",
                    f"{local}+{pick(LOCALS)}@{domain}",
                    f"{local}@{pick(LOCALS)}@{domain}",
                ]
            ).encode()
        if choice < 0.9:
            return pick([local, domain, f"@{domain}", f"{local}@", "@", "@@", ""]).encode()
        if choice < 0.97:
            bad = pick(NOT_UTF8)
            return pick(
                [
                    bad,
                    bad + b"@example.com",
                    b"alice@" + bad,
                    local.encode() + bad + b"@" + domain.encode(),
                ]
            )
        return self._long_key()

    def _long_key(self) -> bytes:
        """Return a key of up to 10 000 bytes, the most that a socketmap client may send."""
        length = self._random.choice([255, 256, 998, 4096, 9999, 10_000])
        unit = self._random.choice([b"x", b"'", b"\\", b"a.", "ü".encode()])
        tail = self._random.choice([b"", b"@example.com"])
        key = (unit * length)[: length - len(tail)]
        return key.decode(errors="ignore").encode() + tail

    def cf_file(self, database: dict[str, str], directory: Path) -> CfFile:
        """Return one random file.

        `database` are the parameters that `fill` has returned, `directory` holds the files that it
        may name.
        """
        parameters = dict(database)
        chance = self._random.random
        parameters |= self._legacy() if chance() < 0.08 else {"query": self._usable_query()}
        if chance() < 0.5:
            parameters["result_format"] = self._random.choice(RESULT_FORMATS)
        if chance() < 0.25:
            parameters["domain"] = self._domain(directory)
        if chance() < 0.1:
            parameters["expansion_limit"] = self._random.choice(["0", "1", "2", "50"])
        if chance() < 0.1 and "hosts" in parameters:
            parameters |= self._option_file(directory)
        if chance() < 0.1:
            parameters["require_result_set"] = self._random.choice(["yes", "no"])
        if chance() < 0.1:
            parameters[self._random.choice(["search_base", "comment", "server_host"])] = (
                "ignored = $x"
            )
        return CfFile(parameters, self._layout(parameters), fold=chance() > 0.1)

    def _option_file(self, directory: Path) -> dict[str, str]:
        """Return the parameters that set the connection's character set.

        In an option file for Postfix before 3.9, as `charset` since.
        """
        group = self._random.choice(["client", "client", "mailers"])
        path = directory / f"options-{self._random.randrange(10**9)}.cnf"
        charset = self._random.choice(["utf8mb4", "latin1", "utf8mb3", "ascii", "latin2"])
        path.write_text(f"# options\n[{group}]\ndefault-character-set = {charset}\n")
        return {"option_file": str(path), "charset": charset} | (
            {"option_group": group} if group != "client" else {}
        )

    def _domain(self, directory: Path) -> str:
        names = self._random.choice(DOMAIN_LISTS)
        if self._random.random() < 0.8:
            return names
        path = directory / f"domains-{self._random.randrange(10**9)}"
        path.write_text("# domains\n" + "\n".join(names.replace(",", " ").split()) + "\n")
        return f"{path}, a.b"

    def _legacy(self) -> dict[str, str]:
        conditions = self._random.choice(
            [
                "",
                "AND number > 5",
                "and domain = '%d'",
                "AND destination IS NOT NULL ORDER BY id DESC LIMIT 3",
            ]
        )
        parts = {
            "table": "entry",
            "select_field": self._random.choice(["destination", "other", "destination, number"]),
            "where_field": "address",
        }
        return parts | ({"additional_conditions": conditions} if conditions else {})

    def _usable_query(self) -> str:
        while True:
            query = self._query()
            if self._usable is None or self._usable(query):
                return query

    def _query(self) -> str:
        """Return a random query template."""
        choice = self._random.random()
        if choice < 0.2:
            query = self._random.choice(ECHOES)
        elif choice < 0.28:
            query = self._random.choice(CALLS)
        elif choice < 0.42:
            first, second = self._select(order=False), self._select(order=False)
            query = self._random.choice(
                [
                    f"({first}) UNION ALL ({second}) LIMIT 4",
                    f"{first} UNION {second}",
                    f"({first}) UNION ({second})",
                ]
            )
        elif choice < 0.47:
            query = f"SELECT destination FROM western WHERE {self._random.choice(CONDITIONS[:8])} ORDER BY id LIMIT 5"
        else:
            query = self._select(order=True)
        if self._random.random() < 0.06:
            query += self._random.choice(
                [";", " ; ", "; SELECT 2", " -- note", " # note", " /* %% */"]
            )
        quote = self._random.choice(self._quotes)
        return query.replace("'", quote)

    def _select(self, *, order: bool) -> str:
        pick = self._random.choice
        column = pick(COLUMNS) if order else pick(["destination", "other", "address", "'%s'", "1"])
        tail = (
            pick([" ORDER BY id LIMIT 20", " ORDER BY id DESC LIMIT 3", " ORDER BY id LIMIT 1"])
            if order and "(" not in column
            else ""
        )
        return f"{pick(['SELECT', 'select', 'SELECT  '])} {column} FROM entry WHERE {pick(CONDITIONS)}{tail}"

    def _layout(self, parameters: dict[str, str]) -> str:
        """Write the parameters the way administrators do.

        Comments, blank lines, continuation lines, no final newline.
        """
        pick = self._random.choice
        lines = [f"# {pick(['table', 'ü', ''])}"] if self._random.random() < 0.5 else []
        for name in self._random.sample(list(parameters), len(parameters)):
            value = parameters[name]
            if name == "query" and self._random.random() < 0.3:
                value = pick(["\n    ", "\n\t", "\n# in between\n  "]).join(_split_at_blank(value))
            lines.append(
                f"{name}{pick([' = ', '=', ' =', '= ', '   =   '])}{value}{pick(['', '', ' ', chr(9)])}"
            )
            lines += pick([[], [], [""], ["# comment = 1", "   "]])
        return "\n".join(lines) + pick(["\n", "\n", ""])


def _split_at_blank(text: str) -> Iterable[str]:
    """Split a query behind its first word, where a line may continue."""
    return text.split(" ", 1)
