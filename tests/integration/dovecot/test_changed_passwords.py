"""A changed password counts at once, without any privilege in the database: IMAP logins over Dovecot 2.3.

Beside mailmapd's Dovecot run two that ask the database by Dovecot's own SQL driver, without its auth cache and with it.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.request import urlopen

import pytest

from mailmapd.config.loader import load_config
from mailmapd.engine.dicts.mismatches import WINDOW
from mailmapd.snippets.dovecot import dovecot_23
from support.daemon import Daemon
from support.dovecot import Dovecot, Verdict, write_snippet
from support.logins import imap_login
from support.mariadb import MariaDB, private_directory
from support.process import free_port, wait_until

pytestmark = [pytest.mark.servers, pytest.mark.root]

DATABASE = "changed_passwords"
SCHEMA = "CREATE TABLE mailbox (login varchar(100) PRIMARY KEY, address varchar(100), password varchar(100))"
SETTINGS = """\
password_query = SELECT address AS user, password FROM mailbox WHERE login = '%u'
user_query = SELECT '{home}' AS home, {uid} AS uid, {uid} AS gid FROM mailbox WHERE address = '%u' LIMIT 1
"""


@dataclass(frozen=True)
class Site:
    """The database, mailmapd, and a Dovecot that asks it; `own` ask the database themselves."""

    database: MariaDB
    daemon: Daemon
    dovecot: Dovecot
    own: dict[str, Dovecot]
    http: str

    def run(self, sql: str) -> None:
        """Run a statement."""
        self.database.run_sql(sql, database=DATABASE)

    def add(self, *logins: str, address: str = "") -> None:
        """Add users with the password "old"."""
        for login in logins:
            self.run(
                f"INSERT INTO mailbox VALUES ('{login}', '{address or login}', '{{PLAIN}}old')"
            )

    def change(self, login: str, password: str) -> None:
        """Change a password."""
        self.run(f"UPDATE mailbox SET password = '{{PLAIN}}{password}' WHERE login = '{login}'")

    def login(self, user: str, password: str) -> Verdict:
        """Log in by way of mailmapd."""
        return imap_login(self.dovecot.ports["imap"], user, password)

    def counts(self) -> dict[str, float]:
        """Return how many questions ended how, from the metrics."""
        text = urlopen(f"http://{self.http}/metrics", timeout=30).read().decode()
        form = r'^mailmapd_mismatches_total{dict="auth",result="(\w+)"} (\S+)'
        return {name: float(count) for name, count in re.findall(form, text, re.MULTILINE)}

    def logged(self) -> list[str]:
        """Return the queries for passwords since they began to be logged, and end that."""
        logged = [sql for sql in self.database.logged_queries(DATABASE) if "password" in sql]
        self.database.log_queries(False)
        return logged


@pytest.fixture(scope="module")
def site(mariadb: MariaDB) -> Iterator[Site]:
    """The servers. Times to live are long, so that nothing is asked again because of them."""
    mariadb.run_sql(f"DROP DATABASE IF EXISTS {DATABASE}; CREATE DATABASE {DATABASE}")
    mariadb.run_sql(SCHEMA, database=DATABASE)
    mariadb.grant(DATABASE, "geheim", DATABASE)
    with ExitStack() as stack:
        folder = stack.enter_context(private_directory())
        home = folder / "home"
        home.mkdir(mode=0o777)
        home.chmod(0o777)
        connect = (
            f"connect = host={mariadb.socket} dbname={DATABASE} user={DATABASE} password=geheim\n"
        )
        sql = folder / "sql.conf"
        sql.write_text(f"driver = mysql\n{connect}{SETTINGS.format(home=home, uid=65534)}")
        http = f"127.0.0.1:{free_port()}"
        listen = f'[listen]\ndict = [{{address = "unix:{folder}/dict", mode = "0666", peers = ["dovecot"]}}]\n'
        control = f'control = "unix:{folder}/control"\nhttp = "{http}"\n'
        cache = '[cache]\nttl = "1h"\nnegative_ttl = "1h"\n'
        daemon = stack.enter_context(
            Daemon(folder, f'{listen}{control}{cache}[dict.auth]\ndovecot_sql = "sql.conf"\n')
        )
        write_snippet(dovecot_23(load_config(daemon.config), str(folder)))
        dovecot = stack.enter_context(Dovecot(folder, f"!include {folder}/conf.d/10-auth.conf\n"))
        own = {size: stack.enter_context(_own(stack, sql, size)) for size in ("0", "10M")}
        yield Site(mariadb, daemon, dovecot, own, http)


def _own(stack: ExitStack, sql: Path, size: str) -> Dovecot:
    section = f"{{\n  driver = sql\n  args = {sql}\n}}\n"
    return Dovecot(
        stack.enter_context(private_directory()),
        f"auth_cache_size = {size}\npassdb {section}userdb {section}",
    )


def test_new_password_counts_at_once(site: Site) -> None:
    """The new password is accepted at the first login after the change; the old one and others are refused."""
    site.add("a@example.com")
    for old, new in (("old", "second"), ("second", "third")):
        assert site.login("a@example.com", old) is Verdict.ACCEPTED
        site.change("a@example.com", new)
        assert site.login("a@example.com", new) is Verdict.ACCEPTED
        assert site.login("a@example.com", old) is Verdict.REFUSED
        assert site.login("a@example.com", "wrong") is Verdict.REFUSED
        assert site.login("a@example.com", new) is Verdict.ACCEPTED


def test_many_connections_with_the_new_password(site: Site) -> None:
    """A mail program that opens several connections gets all of them with the new password."""
    site.add("b@example.com")
    assert site.login("b@example.com", "old") is Verdict.ACCEPTED
    site.change("b@example.com", "new")
    with ThreadPoolExecutor(8) as pool:
        logins = list(pool.map(lambda _: site.login("b@example.com", "new"), range(8)))
    assert logins == [Verdict.ACCEPTED] * 8


def test_renamed_user(site: Site) -> None:
    """A user whom the query renames has the new password at once, by each name, and the old one by none."""
    site.run(
        "INSERT INTO mailbox VALUES ('nick', 'c@example.com', '{PLAIN}old'), "
        "('c@example.com', 'c@example.com', '{PLAIN}old')"
    )
    for name in ("nick", "c@example.com", "NICK"):
        assert site.login(name, "old") is Verdict.ACCEPTED
    site.run("UPDATE mailbox SET password = '{PLAIN}new' WHERE address = 'c@example.com'")
    for name in ("NICK", "nick", "c@example.com"):
        assert site.login(name, "new") is Verdict.ACCEPTED
        assert site.login(name, "old") is Verdict.REFUSED


def test_locked_user(site: Site) -> None:
    """A user who is gone is refused from the first password that does not match on."""
    site.add("d@example.com")
    assert site.login("d@example.com", "old") is Verdict.ACCEPTED
    site.run("DELETE FROM mailbox WHERE login = 'd@example.com'")
    assert site.login("d@example.com", "wrong") is Verdict.REFUSED
    assert site.login("d@example.com", "old") is Verdict.REFUSED


def test_refusals_are_logged_once(site: Site) -> None:
    """A refused login is one line of the log, as with Dovecot's own driver; one with a changed password is none."""
    site.add("e@example.com")
    assert site.login("e@example.com", "wrong") is Verdict.REFUSED
    assert site.login("e@example.com", "old") is Verdict.ACCEPTED
    site.change("e@example.com", "new")
    assert site.login("e@example.com", "new") is Verdict.ACCEPTED
    lines = [line for line in site.dovecot.text().splitlines() if "e@example.com" in line]
    assert len([line for line in lines if "Password mismatch" in line]) == 1


def test_no_more_selects_than_with_the_auth_cache(site: Site) -> None:
    """Guessing costs the database what it would cost with Dovecot's auth cache, and not a query for each guess."""
    asked = {**site.own, "mailmapd": site.dovecot}
    users = [f"{number}@{name}.example".lower() for name in asked for number in range(2)]
    servers = {f"{name}.example".lower(): dovecot for name, dovecot in asked.items()}
    site.add(*users)

    def guess(user: str) -> None:
        dovecot = servers[user.split("@")[1]]
        assert dovecot.auth_test(user, "old") is Verdict.ACCEPTED
        for number in range(4):
            assert dovecot.auth_test(user, f"guess{number}") is Verdict.REFUSED
        assert dovecot.auth_test(user, "old") is Verdict.ACCEPTED
        assert dovecot.auth_test(user, "guess") is Verdict.REFUSED

    site.database.log_queries()
    started = time.monotonic()
    with ThreadPoolExecutor(len(users)) as pool:
        list(pool.map(guess, users))
    windows = int((time.monotonic() - started) / WINDOW)
    logged = site.logged()
    counts = {name: sum(f"@{name}.ex".lower() in sql for sql in logged) for name in asked}
    assert (counts["0"], counts["10M"]) == (2 * 7, 2 * 3)
    assert 2 * 3 <= counts["mailmapd"] <= 2 * (3 + windows)


def test_guessing_before_anything_is_known(site: Site) -> None:
    """A guesser whose first guess loads the row, or finds no user, causes that one query and no other."""
    site.add("cold@example.com")
    users = ("cold@example.com", "nobody@example.com")
    site.database.log_queries()
    with ThreadPoolExecutor(2) as pool:
        for number in range(3):
            guess = partial(site.dovecot.auth_test, password=f"guess{number}")
            assert list(pool.map(guess, users)) == [Verdict.REFUSED] * 2
    assert len(site.logged()) == 2


def test_metrics_tell_how_questions_end(site: Site) -> None:
    """The metrics count the questions by how they ended."""
    site.add("m@example.com")
    before = site.counts()
    for password, verdict in (
        ("old", Verdict.ACCEPTED),
        ("wrong", Verdict.REFUSED),
        ("wrong", Verdict.REFUSED),
        ("old", Verdict.ACCEPTED),
    ):
        assert site.login("m@example.com", password) is verdict
    site.change("m@example.com", "new")
    assert site.login("m@example.com", "new") is Verdict.ACCEPTED
    after = site.counts()
    more = {result: after[result] - before[result] for result in after}
    assert more == {"changed": 1, "same": 1, "limited": 1, "failed": 0}


def test_database_away(site: Site) -> None:
    """While the database is away, the password in memory is accepted and others are refused, as before."""
    site.add("z@example.com")
    assert site.login("z@example.com", "old") is Verdict.ACCEPTED
    site.database.pause()
    try:
        for _ in range(2):
            assert site.login("z@example.com", "wrong") is Verdict.REFUSED
            assert site.login("z@example.com", "old") is Verdict.ACCEPTED
    finally:
        site.database.resume()
    site.change("z@example.com", "new")
    wait_until(
        lambda: site.login("z@example.com", "new") is Verdict.ACCEPTED, "the changed password"
    )
    assert site.login("z@example.com", "old") is Verdict.REFUSED
