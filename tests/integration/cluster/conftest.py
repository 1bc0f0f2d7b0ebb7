from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.fleet import fill
from support.followed import LOGGED, grant_replication
from support.mariadb import MariaDB, private_directory
from support.valkey import Kind, Valkey


@pytest.fixture(scope="session")
def mariadb() -> Iterator[MariaDB]:
    with private_directory() as folder, MariaDB(folder, settings=LOGGED) as running:
        grant_replication(running)
        yield running


@pytest.fixture
def database(mariadb: MariaDB) -> MariaDB:
    """A database whose changes may be followed, with two rows."""
    fill(mariadb)
    return mariadb


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
