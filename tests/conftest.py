"""Fixtures that start real servers, privately. See the package `support` for what each server can do."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from support.mariadb import MariaDB, private_directory

# How long an example takes says how busy this machine is; `timeout` ends what hangs.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what needs root for an ordinary user; a missing package fails instead, with the name of what to install."""
    if item.get_closest_marker("root") is not None and os.geteuid() != 0:
        pytest.skip("needs root, as the servers that it starts do")


@pytest.fixture
def short_path() -> Iterator[Path]:
    """An empty directory with a path short enough for UNIX sockets, which every account may enter."""
    with private_directory() as path:
        yield path


@pytest.fixture(scope="session")
def mariadb() -> Iterator[MariaDB]:
    """One MariaDB for the whole session, on a socket and a loopback port; tests make databases of their own in it."""
    with private_directory() as directory, MariaDB(directory, tcp=True) as server:
        yield server


@pytest.fixture
def make_mariadb() -> Iterator[Callable[..., MariaDB]]:
    """Start further MariaDB servers with the given options (see `MariaDB`); they end with the test."""
    with ExitStack() as servers:

        def make(**options: Any) -> MariaDB:
            return servers.enter_context(
                MariaDB(servers.enter_context(private_directory()), **options)
            )

        yield make
