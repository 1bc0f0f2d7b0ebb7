"""A mail database of numbered users for tests under load.

``user<number>@example.com`` has the mailbox ``example.com/user<number>/``.

Every number below `USERS` exists, so that any "not found" or other value for one of them is a wrong answer.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from support.mariadb import MariaDB

USERS = 200_000
ACCOUNT = "reader"
PASSWORD = "secret of a throw-away server"
DATABASE = "mail"

LISTEN = """
[listen]
socketmap = ["unix:{folder}/socketmap"]
"""
DATABASE_AND_MAPS = """
[database.mail]
driver = "mysql"
hosts = [{hosts}]
user = "{account}"
password = "{password}"
dbname = "{database}"
connect_timeout = "1s"
queue_timeout = "1s"
query_timeout = "2s"
[table.mailbox]
database = "mail"
query = "SELECT maildir FROM mailbox WHERE id = SUBSTRING('%u', 5)"
[map.mailboxes]
tables = ["mailbox"]
search = "address"
recipient_delimiter = "+"
[table.expiring]
database = "mail"
query = "SELECT maildir FROM mailbox WHERE id = SUBSTRING('%u', 5)"
[table.expiring.cache]
ttl = "1s"
[map.expiring]
tables = ["expiring"]
search = "address"
recipient_delimiter = "+"
"""


def address(number: int) -> bytes:
    """Return a user's address."""
    return b"user%d@example.com" % number


def mailbox(number: int) -> bytes:
    """Return what both maps say of a user."""
    return b"example.com/user%d/" % number


def fill(server: MariaDB) -> None:
    """Create the database, and the account that reads it."""
    server.run_sql(f"CREATE DATABASE {DATABASE}")
    server.run_sql(
        f"CREATE TABLE {DATABASE}.mailbox (id INT PRIMARY KEY, maildir VARCHAR(64) NOT NULL) ENGINE=InnoDB"
    )
    server.run_sql(
        f"INSERT INTO {DATABASE}.mailbox SELECT seq, CONCAT('example.com/user', seq, '/') FROM mysql.seq_0_to_{USERS}"
    )
    server.grant(ACCOUNT, PASSWORD, DATABASE)


def configuration(folder: Path, hosts: Iterable[str], listen: str = LISTEN) -> str:
    """Return a mailmapd.toml with the maps ``mailboxes`` and ``expiring`` (kept for a second) over these hosts."""
    quoted = ", ".join(f'"{host}"' for host in hosts)
    return listen.format(folder=folder) + DATABASE_AND_MAPS.format(
        hosts=quoted, account=ACCOUNT, password=PASSWORD, database=DATABASE
    )
