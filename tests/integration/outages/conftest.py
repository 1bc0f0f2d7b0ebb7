from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.mariadb import MariaDB, private_directory
from support.numbered_mail import fill
from support.priority import NEEDED, put_ahead


@pytest.fixture(scope="session")
def server() -> Iterator[MariaDB]:
    """One MariaDB with numbered users for all of these tests; each leaves it running."""
    with private_directory() as directory, MariaDB(directory, tcp=True) as server:
        fill(server)
        put_ahead(server.process.pid, NEEDED)
        yield server
