from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.fleet import SCHEMA
from support.followed import LOGGED, grant_replication
from support.mariadb import MariaDB, private_directory
from support.valkey import Kind, Valkey


@pytest.fixture(scope="session")
def _database() -> Iterator[MariaDB]:
    with private_directory() as folder, MariaDB(folder, settings=LOGGED) as running:
        grant_replication(running)
        yield running


@pytest.fixture
def database(_database: MariaDB) -> MariaDB:
    """A database whose changes may be followed, with two rows."""
    _database.run_sql("DROP DATABASE IF EXISTS t; CREATE DATABASE t")
    _database.run_sql(SCHEMA, database="t")
    _database.run_sql(
        "INSERT INTO alias VALUES ('a@example.com', 'one', 'example.com'),"
        " ('b@example.com', 'two', 'example.com')",
        database="t",
    )
    _database.grant("mail", "p", "t")
    return _database


@pytest.fixture(params=["redis", "valkey"])
def kind(request: pytest.FixtureRequest) -> Kind:
    """Either server."""
    found: Kind = request.param
    return found


@pytest.fixture
def valkey() -> Iterator[Valkey]:
    """Debian's redis-server."""
    with private_directory() as folder, Valkey(folder) as running:
        yield running
