"""What becomes of mail while the database is away, as a real Postfix decides it, over both of its protocols."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.daemon import Daemon
from support.mariadb import MariaDB
from support.numbered_mail import configuration
from support.postfix import Postfix
from support.process import free_port, wait_until

LISTENERS = """
[listen]
socketmap = [{{address = "unix:{folder}/socketmap", mode = "0666"}}]
[listen.tcp_table]
mailboxes = "127.0.0.1:{tcp}"
aliases = "127.0.0.1:{tcp_aliases}"
"""
ALIASES = """
[table.alias]
database = "mail"
query = "SELECT CONCAT('user', id, '@example.com') FROM mailbox WHERE id = SUBSTRING('%u', 5)"
[map.aliases]
tables = ["alias"]
search = "address"
propagate_unmatched_extensions = true
"""

pytestmark = [pytest.mark.servers, pytest.mark.root]


class Site:
    """A daemon, and a Postfix that asks it over one of the protocols."""

    def __init__(self, folder: Path, server: MariaDB, protocol: str) -> None:
        self.server = server
        ports = {"mailboxes": free_port(), "aliases": free_port()}
        listen = LISTENERS.replace("{tcp}", str(ports["mailboxes"])).replace(
            "{tcp_aliases}", str(ports["aliases"])
        )
        self.daemon = Daemon(
            folder, configuration(folder, [f"unix:{server.socket}"], listen) + ALIASES
        )
        names = {name: f"tcp:127.0.0.1:{port}" for name, port in ports.items()}
        if protocol == "socketmap":
            names = {name: f"socketmap:unix:{folder}/socketmap:{name}" for name in ports}
        settings = {
            "virtual_mailbox_domains": "example.com",
            "virtual_mailbox_maps": names["mailboxes"],
            "virtual_alias_maps": names["aliases"],
            "virtual_alias_domains": "",
            "virtual_transport": "discard",
        }
        (folder / "postfix").mkdir()
        self.postfix = Postfix(folder / "postfix", settings)


@pytest.fixture(params=["socketmap", "tcp_table"])
def site(request: pytest.FixtureRequest, short_path: Path, server: MariaDB) -> Iterator[Site]:
    site = Site(short_path, server, request.param)
    with site.daemon, site.postfix:
        yield site


def verdict(site: Site, recipient: str) -> str:
    """Return the reply to RCPT, or to the end of the message when RCPT was accepted."""
    replies = site.postfix.send("sender@example.net", [recipient])
    return replies[-1]


def test_mail_while_the_database_is_away(site: Site) -> None:
    """Known recipients are accepted from memory, all others deferred, whether they exist or not.

    Nobody is refused for good.
    """
    assert verdict(site, "user1@example.com").startswith("250")
    assert verdict(site, "user-9@example.com").startswith("550")
    site.server.kill()
    try:
        wait_until(lambda: verdict(site, "user77@example.com").startswith("451"), "the outage", 30)
        away = {
            name: verdict(site, f"{name}@example.com")
            for name in ("user1", "user-9", "user5", "user-5")
        }
    finally:
        site.server.start()
    print(f"\n  {away}")
    assert away["user1"].startswith("250")
    assert away["user-9"].startswith("550")
    assert away["user5"].startswith("451 4.3.0")
    assert away["user-5"].startswith("451 4.3.0")
    wait_until(lambda: verdict(site, "user5@example.com").startswith("250"), "the return", 10)
    assert verdict(site, "user-5@example.com").startswith("550")
