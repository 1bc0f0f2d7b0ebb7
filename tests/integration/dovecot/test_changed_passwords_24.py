"""A changed password counts at once, without any privilege in the database: IMAP logins over Dovecot 2.4.

In the Debian 13 system, from generated settings.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

import pytest

from mailmapd.config.loader import load_config
from mailmapd.snippets.dovecot import dovecot_24
from support.daemon import Daemon
from support.debian13 import Debian13
from support.dovecot import Verdict
from support.logins import imap_login
from support.mariadb import MariaDB, private_directory
from support.process import free_port, listens
from support.shipped import shipped

pytestmark = [
    pytest.mark.servers,
    pytest.mark.root,
    pytest.mark.timeout(1800),
]  # the first test may have to download a system

DATABASE = "changed_passwords_24"
SCHEMA = """
CREATE TABLE mailbox (login varchar(100) PRIMARY KEY, address varchar(100), password varchar(100));
INSERT INTO mailbox VALUES
  ('a@example.com', 'a@example.com', '{PLAIN}old'), ('nick', 'b@example.com', '{PLAIN}old'), ('z@example.com', 'z@example.com', '{PLAIN}old');
"""
QUERIES = """\
password_query = SELECT address AS user, password FROM mailbox WHERE login = '%u'
user_query = SELECT '/tmp' AS home, 65534 AS uid, 65534 AS gid FROM mailbox WHERE address = '%u' LIMIT 1
"""
SETTINGS = """\
dovecot_config_version = 2.4.1
dovecot_storage_version = 2.4.1
base_dir = /run/dovecot-changed
state_dir = /run/dovecot-changed-state
log_path = /var/log/dovecot-changed.log
protocols = imap
listen = 127.0.0.1
ssl = no
auth_allow_cleartext = yes
auth_failure_delay = 0
auth_verbose = yes
first_valid_uid = 0
mail_driver = maildir
mail_path = ~/Maildir
service imap-login {
  inet_listener imap {
    port = %d
  }
  inet_listener imaps {
    port = 0
  }
}
service anvil {
  unix_listener anvil-auth-penalty {
    mode = 0
  }
}
"""


@dataclass(frozen=True)
class Site:
    """The database, and a Dovecot 2.4 that asks mailmapd."""

    system: Debian13
    database: MariaDB
    port: int

    def change(self, login: str, password: str) -> None:
        """Change a password."""
        sql = f"UPDATE mailbox SET password = '{{PLAIN}}{password}' WHERE login = '{login}'"
        self.database.run_sql(sql, database=DATABASE)

    def login(self, user: str, password: str) -> Verdict:
        """Log in over IMAP."""
        return imap_login(self.port, user, password)


@pytest.fixture(scope="module")
def site(mariadb: MariaDB) -> Iterator[Site]:
    """The servers, with the settings that `mailmapd snippets dovecot-2.4` prints."""
    mariadb.run_sql(f"DROP DATABASE IF EXISTS {DATABASE}; CREATE DATABASE {DATABASE}")
    mariadb.run_sql(SCHEMA, database=DATABASE)
    mariadb.grant(DATABASE, "geheim", DATABASE)
    with ExitStack() as stack:
        system = stack.enter_context(Debian13())
        folder = stack.enter_context(private_directory())
        socket = system.path("run/mailmapd-changed")
        connect = (
            f"connect = host={mariadb.socket} dbname={DATABASE} user={DATABASE} password=geheim\n"
        )
        (folder / "sql.conf").write_text(f"driver = mysql\n{connect}{QUERIES}")
        accounts = [line.split(":") for line in system.path("etc/passwd").read_text().splitlines()]
        peer = next(fields[2] for fields in accounts if fields[0] == "dovecot")
        config = (
            f'[listen]\nlookup_http = {{address = "unix:{socket}", mode = "0666", peers = ["{peer}"]}}\n'
            '[dict.auth]\ndovecot_sql = "sql.conf"\n'
        )
        daemon = stack.enter_context(Daemon(folder, config))
        snippet = dovecot_24(load_config(daemon.config), "/etc/dovecot-changed")
        port = free_port()
        system.write("etc/dovecot-changed/mailmapd.lua", shipped("dovecot/2.4/mailmapd.lua"))
        system.write(
            "etc/dovecot-changed/dovecot.conf",
            SETTINGS % port + snippet.replace(str(socket), "/run/mailmapd-changed"),
        )
        process = system.start(
            ["dovecot", "-F", "-c", "/etc/dovecot-changed/dovecot.conf"], folder / "dovecot.out"
        )
        stack.callback(process.stop)
        process.wait_ready(
            partial(listens, system.path("run/dovecot-changed/auth-userdb")), "Dovecot 2.4"
        )
        yield Site(system, mariadb, port)


def test_new_password_counts_at_once(site: Site) -> None:
    """The new password is accepted at the first login after the change; the old one and others are refused."""
    for old, new in (("old", "second"), ("second", "third")):
        assert site.login("a@example.com", old) is Verdict.ACCEPTED
        site.change("a@example.com", new)
        assert site.login("a@example.com", new) is Verdict.ACCEPTED
        assert site.login("a@example.com", old) is Verdict.REFUSED
        assert site.login("a@example.com", "wrong") is Verdict.REFUSED
        assert site.login("a@example.com", new) is Verdict.ACCEPTED


def test_renamed_user(site: Site) -> None:
    """A user whom the query renames has the new password at once, and the old one no more."""
    assert site.login("NICK", "old") is Verdict.ACCEPTED
    site.change("nick", "new")
    assert site.login("nick", "new") is Verdict.ACCEPTED
    assert site.login("NICK", "old") is Verdict.REFUSED


def test_refusals_are_logged_once(site: Site) -> None:
    """A refused login is one line of the log."""
    log = site.system.path("var/log/dovecot-changed.log")
    before = log.read_text().count("Password mismatch")
    assert site.login("z@example.com", "wrong") is Verdict.REFUSED
    assert log.read_text().count("Password mismatch") == before + 1


def test_database_away(site: Site) -> None:
    """While the database is away, the password in memory is accepted and others are refused, as before."""
    assert site.login("z@example.com", "old") is Verdict.ACCEPTED
    site.database.pause()
    try:
        assert site.login("z@example.com", "wrong") is Verdict.REFUSED
        assert site.login("z@example.com", "old") is Verdict.ACCEPTED
    finally:
        site.database.resume()
