"""One stack: what to create in the database, which .cf files Postfix has, and its lines of main.cf."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.sql_server import SqlServer

USER = "mail"
PASSWORD = 'se#cret "quoted"'

Insert = Callable[[str, list[tuple[Any, ...]]], None]
"""Inserts rows into ``table (columns)``."""


@dataclass(frozen=True)
class Stack:
    """`queries` are the .cf files by name, as (query, further lines); `main_cf` has {cf} for the folder they are in.

    `slow_map` is a map whose query takes long by itself.
    """

    name: str
    schema: str
    fill: Callable[[Insert], None]
    queries: Mapping[str, tuple[str, str]]
    main_cf: str
    slow_map: str = ""

    def create(self, server: SqlServer) -> str:
        """Create the stack's database with its rows and an account that may read it; return the database's name."""
        database = f"s_{self.name}"
        server.run_sql(
            f"DROP DATABASE IF EXISTS `{database}`; CREATE DATABASE `{database}` CHARACTER SET utf8mb4"
        )
        server.run_sql(self.schema, database=database)
        connection = server.connect(database)
        with connection, connection.cursor() as cursor:

            def insert(table: str, rows: list[tuple[Any, ...]]) -> None:
                places = ", ".join(["%s"] * len(rows[0]))
                cursor.executemany(f"INSERT INTO {table} VALUES ({places})", rows)

            self.fill(insert)
        server.grant(USER, PASSWORD, database)
        return database

    def write_cf(self, server: SqlServer, folder: Path) -> None:
        """Write the .cf files."""
        folder.mkdir(exist_ok=True)
        for name, (query, more) in self.queries.items():
            text = (
                f"hosts = unix:{server.socket}\nuser = {USER}\npassword = {PASSWORD}\ndbname "
                f"= s_{self.name}\n{more}query = {query}\n"
            )
            (folder / f"{name}.cf").write_text(text)
