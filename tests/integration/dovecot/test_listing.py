"""Listing users through a real Dovecot, a few and very many."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from support.clients import Client
from support.mariadb import MariaDB

from .conftest import Mail, mail_stack

pytestmark = [pytest.mark.servers, pytest.mark.root]

MANY = 200_000
MEMORY_LIMIT = 30 << 20
"""Bytes by which the daemon may grow while it lists MANY users.

Held as a whole they would take more than twice that.
"""


@pytest.fixture(scope="module")
def many(mariadb: MariaDB) -> Iterator[Mail]:
    """MANY users, named u0000001@example.com and so on."""
    with ExitStack() as stack:
        mail = mail_stack(stack, mariadb, "dovecot_many")
        mariadb.run_sql(
            "INSERT INTO mailbox SELECT CONCAT('u', LPAD(seq, 7, '0'), '@example.com'), '{PLAIN}pw', '/srv/mail', NULL "
            f"FROM seq_1_to_{MANY}",
            database=mail.name,
        )
        yield mail


def _peak(mail: Mail) -> int:
    status = Path(f"/proc/{mail.daemon.process.pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def test_many_users(many: Mail) -> None:
    """`doveadm user '*'` lists 200 000 users, and the daemon does not hold them all."""
    before = _peak(many)
    assert len(many.dovecot.users()) == MANY
    assert _peak(many) - before < MEMORY_LIMIT


def test_mask(many: Mail) -> None:
    """A mask limits what is sent."""
    assert many.dovecot.users("u000001?@*") == [
        f"u000001{digit}@example.com" for digit in range(10)
    ]


def test_slow_client_holds_up_nobody(many: Mail) -> None:
    """A client that does not read its listing costs no memory and delays no lookup of others."""
    before = _peak(many)
    with Client(many.daemon.connect("dict")) as slow:
        slow.send(b"H3\t2\t0\t\tauth\nI0\t0\tshared/userdb/\t\n")
        for number in range(1, 6):
            assert many.dovecot.user(f"u000000{number}@example.com") is not None
        assert _peak(many) - before < MEMORY_LIMIT
        lines = 0
        while slow.stream.readline() != b"\n":
            lines += 1
        assert lines == MANY


def test_database_away(many: Mail, mariadb: MariaDB) -> None:
    """A listing that the database breaks off fails as a whole; nobody takes a part for all users."""
    with Client(many.daemon.connect("dict")) as client:
        client.send(b"H3\t2\t0\t\tauth\nI0\t0\tshared/userdb/\t\n")
        assert client.stream.readline().startswith(b"Oshared/userdb/")
        connection = mariadb.connect()
        with connection, connection.cursor() as cursor:
            cursor.execute(
                "SELECT id FROM information_schema.processlist WHERE user = %s", [many.name]
            )
            for (identity,) in cursor.fetchall():
                cursor.execute(f"KILL {identity}")
        line = b"O"
        while line.startswith(b"O"):
            line = client.stream.readline()
        assert line.startswith(b"F")
