"""The two servers whose logs are followed, with an account that may follow them and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from support.certificates import make_certificates
from support.debian_sid import DebianSid, Mysql9
from support.followed import LOGGED, MYSQL_GTIDS, MYSQL_LOGGED, grant_replication
from support.kept_debian import CannotDownload
from support.mariadb import MariaDB, private_directory
from support.sql_server import SqlServer

New = Callable[..., SqlServer]
"""Starts a server of a kind, with a number, that writes a log or not."""


@pytest.fixture(scope="package")
def mysql() -> Iterator[Mysql9]:
    """MySQL 9."""
    with private_directory() as folder:
        try:
            system = DebianSid().__enter__()
        except CannotDownload as error:
            pytest.skip(str(error))
        try:
            server = Mysql9(system, make_certificates(folder))
            server.settings = MYSQL_LOGGED
            with server:
                grant_replication(server)
                yield server
        finally:
            system.__exit__(None, None, None)


@pytest.fixture(scope="package")
def mariadb() -> Iterator[MariaDB]:
    """MariaDB."""
    with private_directory() as folder, MariaDB(folder, settings=LOGGED) as server:
        grant_replication(server)
        yield server


@pytest.fixture
def server(request: pytest.FixtureRequest) -> SqlServer:
    """MariaDB, or the server that the test names."""
    name = getattr(request, "param", "MariaDB")
    found: SqlServer = request.getfixturevalue("mariadb" if name == "MariaDB" else "mysql")
    return found


@pytest.fixture(scope="module")
def new() -> Iterator[New]:
    """Start servers of either kind that nothing else uses."""
    with ExitStack() as stack:
        system: list[DebianSid] = []

        def start(kind: str, number: int = 1, *, logs: bool = True) -> SqlServer:
            options = [f"--server-id={number}"]
            options += [] if logs else ["--read-only=ON"]
            folder = stack.enter_context(private_directory())
            if kind == "MariaDB":
                logged = (*LOGGED, "--log-slave-updates=ON") if logs else ()
                return stack.enter_context(MariaDB(folder, tcp=True, settings=(*logged, *options)))
            if not system:
                try:
                    system.append(stack.enter_context(DebianSid()))
                except CannotDownload as error:
                    pytest.skip(str(error))
            server = Mysql9(system[0], make_certificates(folder))
            server.settings = (*(MYSQL_LOGGED if logs else MYSQL_GTIDS), *options)
            return stack.enter_context(server)

        yield start
