"""Dovecot's own auth cache in front of mailmapd, with the keys that `snippets` writes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from mailmapd.config.loader import load_config
from mailmapd.snippets.dovecot import dovecot_23
from support.daemon import Daemon
from support.dovecot import Dovecot, Verdict, write_snippet
from support.mariadb import MariaDB, private_directory

pytestmark = [pytest.mark.servers, pytest.mark.root]

DATABASE = "auth_cache"
SQL = """
CREATE TABLE mailbox (username varchar(100) PRIMARY KEY, password varchar(100), service varchar(20), lip varchar(40), name varchar(100));
INSERT INTO mailbox VALUES ('a@example.com', '{PLAIN}pw', 'imap', '192.0.2.1', 'mail.example.com');
"""
SETTINGS = """\
password_query = SELECT password FROM mailbox WHERE username = '%Lu' AND service = '%Ls' AND lip = '%l' AND name = '%{local_name}'
user_query = SELECT '/srv/%Ls' AS home, 5000 AS uid, 5000 AS gid FROM mailbox WHERE username = '%Lu'
"""
RIGHT = {"service": "imap", "lip": "192.0.2.1", "local_name": "mail.example.com"}


@pytest.fixture(scope="module")
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture(scope="module")
def dovecot(stack: ExitStack, mariadb: MariaDB) -> Dovecot:
    """A Dovecot with its auth cache on; its times are long, so that nothing expires during a test."""
    mariadb.run_sql(f"DROP DATABASE IF EXISTS {DATABASE}; CREATE DATABASE {DATABASE}")
    mariadb.run_sql(SQL, database=DATABASE)
    mariadb.grant(DATABASE, "geheim", DATABASE)
    directory = stack.enter_context(private_directory())
    connect = f"connect = host={mariadb.socket} dbname={DATABASE} user={DATABASE} password=geheim\n"
    (directory / "sql.conf").write_text(f"driver = mysql\n{connect}{SETTINGS}")
    listen = f'[listen]\ndict = [{{address = "unix:{directory}/dict", mode = "0666", peers = ["dovecot"]}}]\n'
    daemon = stack.enter_context(
        Daemon(directory, f'{listen}[dict.auth]\ndovecot_sql = "sql.conf"\n')
    )
    snippet = dovecot_23(load_config(daemon.config), str(directory))
    cache = "auth_cache_size = 10 M\nauth_cache_ttl = 1 hour\nauth_cache_negative_ttl = 1 hour"
    write_snippet(snippet.replace("auth_cache_size = 0", cache))
    return stack.enter_context(Dovecot(directory, f"!include {directory}/conf.d/10-auth.conf\n"))


def test_cached_logins_are_told_apart(dovecot: Dovecot) -> None:
    """What the cache knows of one service, address or server name does not answer for another."""
    for _ in range(2):
        assert dovecot.auth_test("a@example.com", "pw", **RIGHT) is Verdict.ACCEPTED
        assert dovecot.auth_test("A@example.com", "wrong", **RIGHT) is Verdict.REFUSED
        for name, value in {
            "service": "pop3",
            "lip": "192.0.2.2",
            "local_name": "x/192.0.2.1",
        }.items():
            assert (
                dovecot.auth_test("a@example.com", "pw", **{**RIGHT, name: value})
                is Verdict.REFUSED
            )


def test_cached_users_are_told_apart(dovecot: Dovecot) -> None:
    """What the cache knows of a user for one service does not answer for another."""
    for service in ("imap", "LMTP", "imap", "lmtp"):
        fields = dovecot.user("a@example.com", service=service)
        assert fields is not None
        assert fields["home"] == f"/srv/{service.lower()}"
