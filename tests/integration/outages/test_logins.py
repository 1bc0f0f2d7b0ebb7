"""What becomes of logins through a real Dovecot 2.3 while the database is away, and while the daemon restarts."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mailmapd.config.loader import load_config
from mailmapd.snippets.dovecot import dovecot_23
from support.activation import ActivatedDaemon
from support.dovecot import Dovecot, LookupFailed, Verdict, write_snippet
from support.mariadb import MariaDB
from support.numbered_mail import configuration

RESTARTS = 3
LISTEN = """
[listen]
dict = [{{address = "unix:{folder}/dict", peers = ["dovecot"]}}]
"""
LOGINS = """
[table.passdb]
database = "mail"
query = "SELECT '{PLAIN}secret' AS password FROM mailbox WHERE id = SUBSTRING('%u', 5)"
[table.userdb]
database = "mail"
query = "SELECT '/srv/mail' AS home, 5000 AS uid, 5000 AS gid FROM mailbox WHERE id = SUBSTRING('%u', 5)"
[dict.auth]
passdb = "passdb"
userdb = "userdb"
"""

pytestmark = [pytest.mark.servers, pytest.mark.root]


class Site:
    """A daemon behind handed-over sockets, and a Dovecot that asks it for everything and remembers nothing itself."""

    def __init__(self, folder: Path, server: MariaDB) -> None:
        self.server = server
        self.daemon = ActivatedDaemon(
            folder, configuration(folder, [f"unix:{server.socket}"], LISTEN) + LOGINS
        )
        write_snippet(dovecot_23(load_config(self.daemon.config), str(folder)))
        settings = folder / "conf.d" / "10-auth.conf"
        lines = [
            line
            for line in settings.read_text().splitlines(keepends=True)
            if not line.startswith("auth_cache")
        ]
        settings.write_text("".join(lines))
        self.dovecot = Dovecot(folder, f"auth_cache_size = 0\n!include {settings}\n")

    def login(self, local: str, password: str = "secret") -> Verdict:
        """Try a login."""
        return self.dovecot.auth_test(f"{local}@example.com", password)


@pytest.fixture
def site(short_path: Path, server: MariaDB) -> Iterator[Site]:
    site = Site(short_path, server)
    with site.daemon, site.dovecot:
        yield site


def test_logins_while_the_database_is_away(site: Site) -> None:
    """Whom the daemon remembers logs in or is refused as ever.

    For all others it is a temporary failure, never "unknown user".
    """
    assert site.login("user1") is Verdict.ACCEPTED
    assert site.login("user-9") is Verdict.REFUSED
    site.server.kill()
    try:
        assert site.login("user1") is Verdict.ACCEPTED
        assert site.login("user1", "wrong") is Verdict.REFUSED
        assert site.login("user-9") is Verdict.REFUSED
        assert site.login("user5") is Verdict.FAILED
        assert site.login("user-5") is Verdict.FAILED
        with pytest.raises(LookupFailed):
            site.dovecot.user("user5@example.com")
    finally:
        site.server.start()


def test_logins_through_restarts(site: Site) -> None:
    """The daemon restarts again and again: every login is accepted."""
    finished = False

    def log_in(first: int) -> list[Verdict]:
        seen = []
        for number in range(first, 100_000, 4):
            seen.append(site.login(f"user{number}"))
            if finished:
                break
        return seen

    with ThreadPoolExecutor(4) as threads:
        loops = [threads.submit(log_in, first) for first in range(4)]
        try:
            for _ in range(RESTARTS):
                assert site.daemon.restart() == 0
        finally:
            finished = True
        seen = [verdict for loop in loops for verdict in loop.result()]
    print(f"\n  {len(seen)} logins through {RESTARTS} restarts")
    assert set(seen) == {Verdict.ACCEPTED}
