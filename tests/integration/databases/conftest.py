"""Databases on real servers, closed afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import pytest
import uvloop

from mailmapd.databases.mysql.database import MysqlDatabase
from mailmapd.databases.settings import MysqlSettings
from support.mariadb import MariaDB
from support.mysql_lookups import Connect, Record, prepare

BOTH_LOOPS = ("test_mysql_login.py", "test_mysql_tls.py")
"""Tests of what each event loop does in its own way: the transport handed over, and TLS."""


@pytest.hookimpl(optionalhook=True)
def pytest_asyncio_loop_factories(
    item: pytest.Item,
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run on uvloop, as the daemon does."""
    factories: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
        "uvloop": uvloop.new_event_loop
    }
    if item.path.name in BOTH_LOOPS:
        factories["asyncio"] = asyncio.new_event_loop
    return factories


@pytest.fixture
def record() -> Record:
    return Record()


@pytest.fixture
async def connect(record: Record) -> AsyncIterator[Connect]:
    """Make a MysqlDatabase for settings; it is closed with the test. Hosts that are down are probed every 50 ms."""
    opened: list[MysqlDatabase] = []

    def make(settings: MysqlSettings, **options: Any) -> MysqlDatabase:
        opened.append(
            MysqlDatabase("mail", settings, record, **{"probe_interval": 0.05, **options})
        )
        return opened[-1]

    yield make
    for database in opened:
        await database.close()


@pytest.fixture(scope="session")
def lookup_server(mariadb: MariaDB) -> MariaDB:
    """The session's server, with the database of lookups."""
    return prepare(mariadb)


@pytest.fixture
def make_lookup_server(make_mariadb: Callable[..., MariaDB]) -> Callable[..., MariaDB]:
    """Start a server of the test's own, with the database of lookups."""
    return lambda **options: prepare(make_mariadb(**options))
