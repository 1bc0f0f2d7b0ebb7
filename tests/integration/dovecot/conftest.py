"""One mailmapd and one Dovecot 2.3 for the tests that only differ in what they ask."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from mailmapd.config.loader import load_config
from mailmapd.snippets.dovecot import dovecot_23
from support.daemon import Daemon
from support.dovecot import Dovecot, write_snippet
from support.mariadb import MariaDB, private_directory

SCHEMA = """
CREATE TABLE mailbox (username varchar(5000) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin, password varchar(255), home blob, extra blob,
                      KEY (username(100)));
"""
SETTINGS = """\
default_pass_scheme = SHA512-CRYPT
password_query = SELECT username AS user, password FROM mailbox WHERE username = '%u'
user_query = SELECT home, 5000 AS uid, 5000 AS gid, extra FROM mailbox WHERE username = '%u'
iterate_query = SELECT username AS user FROM mailbox
"""
RELAXED = "auth_username_chars =\nauth_username_format =\nauth_cache_size = 0\n"


@dataclass(frozen=True)
class Mail:
    """A database, a mailmapd that answers from it, and a Dovecot that asks only mailmapd."""

    database: MariaDB
    daemon: Daemon
    dovecot: Dovecot
    name: str = "dovecot_mail"

    def add(
        self,
        username: str,
        password: str | None,
        home: bytes = b"/srv/mail",
        extra: bytes | None = None,
    ) -> None:
        """Add a user."""
        connection = self.database.connect(self.name)
        with connection, connection.cursor() as cursor:
            cursor.execute(
                "INSERT INTO mailbox VALUES (%s, %s, %s, %s)", (username, password, home, extra)
            )


def mail_stack(stack: ExitStack, mariadb: MariaDB, name: str, *, listen: str = "") -> Mail:
    """Start the three for a database of its own; `listen` is further TOML of [listen]."""
    mariadb.run_sql(f"DROP DATABASE IF EXISTS {name}; CREATE DATABASE {name} CHARACTER SET utf8mb4")
    mariadb.run_sql(SCHEMA, database=name)
    mariadb.grant(name, "geheim", name)
    directory = stack.enter_context(private_directory())
    (directory / "dovecot-sql.conf.ext").write_text(
        f"driver = mysql\nconnect = host={mariadb.socket} dbname={name} user={name} password=geheim\n{SETTINGS}"
    )
    daemon = stack.enter_context(Daemon(directory, _config(directory, listen)))
    write_snippet(dovecot_23(load_config(daemon.config), str(directory)))
    (directory / "conf.d/10-auth.conf").write_text(
        _without_cache(directory / "conf.d/10-auth.conf")
    )
    dovecot = stack.enter_context(
        Dovecot(directory, f"{RELAXED}!include {directory}/conf.d/10-auth.conf\n")
    )
    return Mail(mariadb, daemon, dovecot, name)


def _config(directory: Path, listen: str) -> str:
    return (
        f'[listen]\ndict = [{{address = "unix:{directory}/dict", mode = "0666", peers = ["dovecot"]}}]\ncontrol = '
        f'"unix:{directory}/control"\n{listen}\n'
        '[dict.auth]\ndovecot_sql = "dovecot-sql.conf.ext"\n'
    )


def _without_cache(path: Path) -> str:
    return "".join(
        line
        for line in path.read_text().splitlines(keepends=True)
        if not line.startswith("auth_cache")
    )


@pytest.fixture(scope="package")
def mail(mariadb: MariaDB) -> Iterator[Mail]:
    """The three, shared by the tests of this folder; each adds the users it needs."""
    with ExitStack() as stack:
        yield mail_stack(stack, mariadb, "dovecot_mail")
