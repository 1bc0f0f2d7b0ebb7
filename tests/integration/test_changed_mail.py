"""What Postfix and Dovecot know of rows that change, with memory for a day: on a whole mail host that follows the log.

A mailbox, an alias and a password are made, changed and taken away; in between MariaDB is restarted, its log purged and
begun anew, and its replica takes its place. Once with Postfix 3.7, Dovecot 2.3 (dict) and MariaDB 10.11 of Debian 12,
once with Postfix 3.10, Dovecot 2.4 (Lua over HTTP) and MariaDB 11.8 of Debian 13.
"""

from __future__ import annotations

import imaplib
import itertools
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest

from support.debian13 import Debian13, Mariadb11
from support.followed import LOGGED
from support.mail_host import DATABASE_PASSWORD, Debian13Host, LocalHost
from support.mariadb import MariaDB, private_directory
from support.process import wait_until
from support.replication import OF_A_REPLICA, catch_up, copy, promote, replicate

pytestmark = [pytest.mark.servers, pytest.mark.root, pytest.mark.timeout(1800)]

ACCOUNT = "mailmapd"
DATABASE = "virtual_email"
PASSWORDS = {"alice@example.com": "{PLAIN}wonder land", "bob@example.com": "{PLAIN}builder"}
SOON = 0.1  # seconds from COMMIT until a recipient is accepted, or refused, or a password
TRIES = 12  # of which one must be as quick as that: the machine may have other work
IN_THE_END = 30.0  # seconds after which a change that is not known will never be

OF_A_SOURCE = (*LOGGED, "--log-slave-updates=ON")
"""A source that may become a replica."""

Host = LocalHost | Debian13Host


class Servers:
    """The mail host; `another` makes a further server like its database's."""

    def __init__(self, host: Host, another: Callable[[tuple[str, ...]], MariaDB]) -> None:
        self.host = host
        self.database = host.database
        self.another = another
        self._numbers = itertools.count()

    def address(self) -> str:
        """Return an address that nobody has asked for yet."""
        return f"new{next(self._numbers)}@example.com"

    def follow(self, hosts: int = 1) -> None:
        """Wait until the logs of so many hosts are followed."""
        wait_until(lambda: self._followed() == hosts, "the log is not followed", IN_THE_END)

    def _followed(self) -> float:
        return sum(
            value
            for name, value in self.host.daemon.metrics().items()
            if name.startswith("mailmapd_changes_following")
        )

    def verdict(self, recipient: str) -> str:
        """Return the code of the reply to RCPT."""
        with self.host.smtp() as session:
            session.mail("sender@client.test")
            return session.rcpt(recipient)[:3]

    def accepts(self, user: str, password: str) -> bool:
        """Log in over IMAP; return whether that was let happen."""
        try:
            self.host.client(user, password).imap().logout()
        except imaplib.IMAP4.error as error:
            assert "AUTHENTICATIONFAILED" in str(error)  # noqa: PT017
            return False
        return True


def make(database: MariaDB, address: str, password: str = "first") -> None:
    """Insert a mailbox."""
    user, _, domain = address.partition("@")
    database.run_sql(
        "INSERT INTO virtual_email.email_user VALUES (%s, %s, %s, %s, %s)",
        *(user, address, f"{{PLAIN}}{password}", domain, f"{domain}/{user}/"),
    )


def take_away(database: MariaDB, address: str) -> None:
    """Delete a mailbox."""
    database.run_sql("DELETE FROM virtual_email.email_user WHERE mail_account = %s", address)


def known(condition: Callable[[], bool]) -> float:
    """Wait until a change is known; return for how many seconds that took."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < IN_THE_END, "the change is not known"
    return time.monotonic() - began


def best(tries: Callable[[], float]) -> float:
    """Return how long the first of some tries took that was quick, or the quickest."""
    shortest = tries()
    for _ in range(TRIES - 1):
        if shortest < SOON:
            break
        shortest = min(shortest, tries())
    return shortest


def mailboxes_come_and_go(servers: Servers, database: MariaDB) -> None:
    """Make mailboxes and take them away: each is known in the end, and one at once."""
    there: list[str] = []

    def made() -> float:
        address = servers.address()
        for _ in range(2):  # what is answered while another change is heard of is not kept
            assert servers.verdict(address) == "550"
        make(database, address)
        there.append(address)
        return known(lambda: servers.verdict(address) == "250")

    def gone() -> float:
        if not there:
            made()
        address = there.pop()
        take_away(database, address)
        return known(lambda: servers.verdict(address) == "550")

    coming, going = best(made), best(gone)
    print(f"made known in {coming * 1000:.0f} ms, gone in {going * 1000:.0f} ms")
    assert max(coming, going) < SOON


@pytest.fixture(scope="module", params=["Debian 12", "Debian 13"])
def servers(request: pytest.FixtureRequest) -> Iterator[Servers]:
    """A mail host whose database logs rows, with an account that may read the log."""
    if os.getuid() != 0:
        pytest.skip("Postfix, Dovecot and chroot need root")
    with ExitStack() as stack:
        if request.param == "Debian 13":
            system = stack.enter_context(Debian13())

            def another(settings: tuple[str, ...]) -> MariaDB:
                return Mariadb11(system, settings=settings)

            database = stack.enter_context(another(OF_A_SOURCE))
            host: Host = Debian13Host(database, ACCOUNT, PASSWORDS, system)
        else:

            def another(settings: tuple[str, ...]) -> MariaDB:
                folder = stack.enter_context(private_directory())
                return MariaDB(folder, tcp=True, settings=settings)

            database = stack.enter_context(another(OF_A_SOURCE))
            host = LocalHost(database, ACCOUNT, PASSWORDS)
        let_follow(database)
        stack.enter_context(host)
        made = Servers(host, another)
        made.follow()
        yield made


def let_follow(database: MariaDB) -> None:
    """Let mailmapd's account read the log."""
    for name in ("localhost", "127.0.0.1"):
        database.run_sql(f"GRANT REPLICATION SLAVE ON *.* TO {ACCOUNT}@{name}")


def nothing(_: MariaDB) -> None:
    """Leave the database alone."""


def restarted(database: MariaDB) -> None:
    """End MariaDB and start it again."""
    database.restart()


def purged(database: MariaDB) -> None:
    """Take away every file of the log but the last."""
    database.run_sql("FLUSH BINARY LOGS")
    last = database.run_sql("SHOW BINARY LOGS")[-1][0]
    database.run_sql(f"PURGE BINARY LOGS TO '{last}'")


def reset(database: MariaDB) -> None:
    """Begin the log anew, as if nothing had ever been logged, which ends whoever reads it."""
    database.kill_connections(ACCOUNT)
    database.run_sql("RESET MASTER")


@pytest.mark.parametrize("happens", [nothing, restarted, purged, reset])
def test_a_mailbox(servers: Servers, happens: Callable[[MariaDB], None]) -> None:
    """An address is refused, made, accepted at once, taken away, and refused at once; whatever became of the log."""
    assert servers.verdict("alice@example.com") == "250"
    happens(servers.database)
    servers.follow()
    mailboxes_come_and_go(servers, servers.database)


def test_an_alias(servers: Servers) -> None:
    """Mail for an alias goes to whom it points at when it is sent."""
    host = servers.host
    alice = host.client("alice@example.com", "wonder land")
    bob = host.client("bob@example.com", "builder")
    alice.send("builder@example.com", "for bob")
    bob.wait_for("for bob")
    servers.database.run_sql(
        "UPDATE virtual_email.email_aliase SET destination = 'alice@example.com'"
        " WHERE aliase = 'builder@example.com'"
    )
    known(lambda: host.postmap("virtual_alias_maps", "builder@example.com") == "alice@example.com")
    bob.send("builder@example.com", "for alice")
    alice.wait_for("for alice")
    assert "for alice" not in bob.imap_subjects()


def test_a_password(servers: Servers) -> None:
    """With a changed password the old one is refused at once, the new one accepted at the first login, and no other."""

    def logins() -> float:
        """Return when the login began that was refused: Dovecot 2.3 says so half a second later."""
        user = servers.address()
        make(servers.database, user)
        known(lambda: servers.accepts(user, "first"))
        servers.database.run_sql(
            "UPDATE virtual_email.email_user SET mail_password = '{PLAIN}second' WHERE mail_account = %s",
            user,
        )
        changed = asked = time.monotonic()
        while servers.accepts(user, "first"):
            asked = time.monotonic()
            assert asked - changed < IN_THE_END, "the change is not known"
        assert servers.accepts(user, "second")
        assert not servers.accepts(user, "first")
        assert not servers.accepts(user, "third")
        return asked - changed

    took = best(logins)
    print(f"the old password refused in a login {took * 1000:.0f} ms after the change")
    assert took < SOON


def test_failed_over(servers: Servers) -> None:
    """When a replica takes the place of a source that is gone, changes are known at once, and when that one is back."""
    source = servers.database
    with replica_of(servers) as replica:
        address = servers.address()
        assert servers.verdict(address) == "550"
        mailboxes_come_and_go(servers, source)
        catch_up(source, replica)
        source.kill()
        promote(replica)
        make(replica, address)
        known(lambda: servers.verdict(address) == "250")
        mailboxes_come_and_go(servers, replica)
        source.start()
        replicate(replica, source)
        catch_up(replica, source)
        servers.follow(2)
        mailboxes_come_and_go(servers, replica)
        promote(source)
    servers.follow()
    mailboxes_come_and_go(servers, source)


@contextmanager
def replica_of(servers: Servers) -> Iterator[MariaDB]:
    """Give the database a replica, which mailmapd asks when the source is away; take it from mailmapd afterwards."""
    source, daemon = servers.database, servers.host.daemon
    with servers.another((*LOGGED, *OF_A_REPLICA)) as replica:
        replica.grant(ACCOUNT, DATABASE_PASSWORD, DATABASE)
        let_follow(replica)
        copy(source, replica, DATABASE)
        replicate(source, replica)
        config = daemon.config.read_text()
        both = f'["unix:{source.socket}", "unix:{replica.socket}"]'
        first = f'["unix:{source.socket}"]'
        assert f"hosts = {first}" in config
        daemon.write_config(config.replace(f"hosts = {first}", f"hosts = {both}\nprefer = {first}"))
        daemon.process.send_signal(signal.SIGHUP)
        servers.follow(2)
        yield replica
        daemon.write_config(config)
        daemon.process.send_signal(signal.SIGHUP)
        servers.follow()
