"""What Postfix and Dovecot know of rows that change, with memory for a day: on a whole mail host that follows the log.

A mailbox, an alias and a password are made, changed and taken away; in between MariaDB is restarted, its log purged and
begun anew.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from support.dovecot import Verdict
from support.followed import LOGGED
from support.mail_host import LocalHost
from support.mariadb import MariaDB, private_directory
from support.process import wait_until

pytestmark = [pytest.mark.servers, pytest.mark.root, pytest.mark.timeout(600)]

ACCOUNT = "mailmapd"
PASSWORDS = {"alice@example.com": "{PLAIN}wonder land", "bob@example.com": "{PLAIN}builder"}
SOON = 1.0  # seconds in which a change is to be known; on a quiet machine it is a tenth
NEW = "new@example.com"
INSERT = (
    "INSERT INTO virtual_email.email_user VALUES"
    " ('new', 'new@example.com', '{PLAIN}first', 'example.com', 'example.com/new/')"
)
DELETE = "DELETE FROM virtual_email.email_user WHERE user_no = 'new'"


@pytest.fixture(scope="module")
def host() -> Iterator[LocalHost]:
    """A mail host whose database logs rows, with an account that may read the log."""
    if os.getuid() != 0:
        pytest.skip("Postfix and Dovecot need root")
    with ExitStack() as stack:
        folder = stack.enter_context(private_directory())
        database = stack.enter_context(MariaDB(folder, settings=LOGGED))
        host = LocalHost(database, ACCOUNT, PASSWORDS)
        for name in ("localhost", "127.0.0.1"):
            database.run_sql(f"GRANT REPLICATION SLAVE ON *.* TO {ACCOUNT}@{name}")
        yield stack.enter_context(host)


def follows(host: LocalHost) -> bool:
    """Tell whether the log is followed now."""
    return any(
        name.startswith("mailmapd_changes_following") and value == 1
        for name, value in host.daemon.metrics().items()
    )


def verdict(host: LocalHost, recipient: str) -> str:
    """Return the code of the reply to RCPT."""
    with host.postfix.smtp() as session:
        session.mail("sender@client.test")
        return session.rcpt(recipient)[:3]


def known(condition: Callable[[], bool]) -> float:
    """Wait until a change is known; return for how many seconds that took."""
    began = time.perf_counter()
    while not condition():
        assert time.perf_counter() - began < 10, "the change is not known"
    return time.perf_counter() - began


def nothing(_: LocalHost) -> None:
    """Leave the database alone."""


def restarted(host: LocalHost) -> None:
    """End MariaDB and start it again."""
    host.database.restart()


def purged(host: LocalHost) -> None:
    """Take away every file of the log but the last."""
    host.database.run_sql("FLUSH BINARY LOGS")
    last = host.database.run_sql("SHOW BINARY LOGS")[-1][0]
    host.database.run_sql(f"PURGE BINARY LOGS TO '{last}'")


def reset(host: LocalHost) -> None:
    """Begin the log anew, as if nothing had ever been logged, which ends whoever reads it."""
    host.database.kill_connections(ACCOUNT)
    host.database.run_sql("RESET MASTER")


@pytest.mark.parametrize("happens", [nothing, restarted, purged, reset])
def test_a_mailbox(host: LocalHost, happens: Callable[[LocalHost], None]) -> None:
    """An address is refused, made, accepted at once, taken away, and refused at once; whatever became of the log."""
    wait_until(lambda: follows(host), "the log is not followed")
    assert verdict(host, NEW) == "550"
    assert verdict(host, "alice@example.com") == "250"
    happens(host)
    wait_until(lambda: follows(host), "the log is not followed again", 30)
    assert verdict(host, NEW) == "550"
    host.database.run_sql(INSERT)
    made = known(lambda: verdict(host, NEW) == "250")
    host.database.run_sql(DELETE)
    gone = known(lambda: verdict(host, NEW) == "550")
    print(f"{happens.__name__}: made known in {made * 1000:.0f} ms, gone in {gone * 1000:.0f} ms")
    assert max(made, gone) < SOON


def test_an_alias(host: LocalHost) -> None:
    """Mail for an alias goes to whom it points at when it is sent."""
    wait_until(lambda: follows(host), "the log is not followed")
    alice = host.client("alice@example.com", "wonder land")
    bob = host.client("bob@example.com", "builder")
    alice.send("builder@example.com", "for bob")
    bob.wait_for("for bob")
    host.database.run_sql(
        "UPDATE virtual_email.email_aliase SET destination = 'alice@example.com'"
        " WHERE aliase = 'builder@example.com'"
    )
    known(lambda: host.postmap("virtual_alias_maps", "builder@example.com") == "alice@example.com")
    bob.send("builder@example.com", "for alice")
    alice.wait_for("for alice")
    assert "for alice" not in bob.imap_subjects()


def test_a_password(host: LocalHost) -> None:
    """With a changed password the new one is accepted at once, and the old one refused."""
    wait_until(lambda: follows(host), "the log is not followed")
    host.database.run_sql(INSERT)

    def accepted(password: str) -> bool:
        return host.dovecot.auth_test(NEW, password) is Verdict.ACCEPTED

    known(lambda: accepted("first"))
    host.database.run_sql(
        "UPDATE virtual_email.email_user SET mail_password = '{PLAIN}second' WHERE user_no = 'new'"
    )
    assert known(lambda: accepted("second")) < 2 * SOON
    assert not accepted("first")
    assert not accepted("third")
    host.database.run_sql(DELETE)
