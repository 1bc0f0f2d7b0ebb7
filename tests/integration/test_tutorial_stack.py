"""The whole mail host from the shipped configuration.

MariaDB, mailmapd, Postfix and Dovecot, where mailmapd alone asks the database.

Once with this system's Postfix and Dovecot 2.3, once with Postfix 3.10 and Dovecot 2.4 in a Debian 13 system.
"""

from __future__ import annotations

import imaplib
import os
import poplib
import smtplib
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Protocol

import pytest

from support.mail_client import MailClient
from support.mail_host import Debian13Host, LocalHost
from support.mariadb import MariaDB, private_directory

pytestmark = [
    pytest.mark.servers,
    pytest.mark.root,
    pytest.mark.timeout(1800),
]  # the first test may have to download a system

ACCOUNT = "mailmapd"
PASSWORDS = {
    "alice@example.com": "{PLAIN}wonder land",
    "bob@example.com": "{PLAIN}builder",
    "carol@example.com": "{PLAIN}christmas",
}


class MailHost(Protocol):
    """A host, as far as the tests need it."""

    database: MariaDB

    def client(self, user: str, password: str) -> MailClient:
        """Return a user's mail programs."""
        ...

    def postmap(self, name: str, key: str) -> str:
        """Return what `postmap -q` prints for a key of a map."""
        ...

    def listed(self) -> list[str]:
        """Return what `doveadm user '*'` lists."""
        ...


@pytest.fixture(scope="module", params=[LocalHost, Debian13Host], ids=["dovecot23", "dovecot24"])
def host(request: pytest.FixtureRequest) -> Iterator[MailHost]:
    """The running mail host."""
    if os.getuid() != 0:
        pytest.skip("Postfix, Dovecot and chroot need root")
    with ExitStack() as stack:
        database = stack.enter_context(MariaDB(stack.enter_context(private_directory())))
        yield stack.enter_context(request.param(database, ACCOUNT, PASSWORDS))


@pytest.fixture
def alice(host: MailHost) -> MailClient:
    """Alice, who has a mailbox."""
    return host.client("alice@example.com", "wonder land")


@pytest.fixture
def bob(host: MailHost) -> MailClient:
    """Bob, who has a mailbox."""
    return host.client("bob@example.com", "builder")


@pytest.mark.parametrize(
    "recipient",
    ["bob@example.com", "builder@example.com", "bob+lists@example.com", "Bob@Example.com"],
)
def test_mail_arrives(alice: MailClient, bob: MailClient, recipient: str) -> None:
    """Mail submitted with a login over STARTTLS, to a mailbox, an alias or an extension, is
    delivered and read over IMAP and POP3.
    """
    subject = f"for {recipient}"
    alice.send(recipient, subject)
    bob.wait_for(subject)
    assert subject in bob.pop3_subjects()


def test_wrong_password_is_refused(host: MailHost) -> None:
    """A wrong password, and an unknown user, is refused by submission, IMAP and POP3."""
    for user in ("alice@example.com", "nobody@example.com", "alice@elsewhere.example"):
        client = host.client(user, "wrong")
        with pytest.raises(smtplib.SMTPAuthenticationError) as refused:
            client.submission()
        assert refused.value.smtp_code == 535
        with pytest.raises(imaplib.IMAP4.error, match="AUTHENTICATIONFAILED"):
            client.imap()
        with pytest.raises(poplib.error_proto, match="AUTH"):
            client.pop3()


def test_unknown_recipient_is_refused(alice: MailClient) -> None:
    """An address that nobody has is refused while the sender waits."""
    with pytest.raises(smtplib.SMTPRecipientsRefused) as refused:
        alice.send("nobody@example.com", "lost")
    code, _ = refused.value.recipients["nobody@example.com"]
    assert code == 550


def test_no_login_without_tls(alice: MailClient) -> None:
    """Submission offers no login before STARTTLS, and takes no mail without one."""
    with smtplib.SMTP("localhost", alice.ports["submission"], timeout=60) as session:
        session.ehlo()
        assert not session.has_extn("auth")
        assert session.has_extn("starttls")
        assert session.mail("alice@example.com")[0] == 530


def test_postmap_answers(host: MailHost) -> None:
    """`postmap -q` finds what is there and nothing else."""
    assert host.postmap("virtual_mailbox_domains", "example.com") == "example.com"
    assert host.postmap("virtual_mailbox_maps", "alice+x@example.com") == "example.com/alice/"
    assert host.postmap("virtual_alias_maps", "builder@example.com") == "bob@example.com"
    assert host.postmap("virtual_alias_maps", "alice@example.com") == ""
    assert host.postmap("virtual_mailbox_maps", "nobody@example.com") == ""


def test_users_are_listed(host: MailHost) -> None:
    """`doveadm user '*'` lists every mailbox."""
    assert sorted(host.listed()) == sorted(PASSWORDS)


def test_only_mailmapd_asks_the_database(host: MailHost, alice: MailClient) -> None:
    """While mail is sent, delivered and read, mailmapd's account is the only one that asks the
    database, and a few times only.
    """
    carol = host.client("carol@example.com", "christmas")
    host.database.log_queries()
    for number in range(5):
        alice.send("carol@example.com", f"number {number}")
        carol.wait_for(f"number {number}")
    asked = host.database.run_sql(
        "SELECT DISTINCT user_host FROM mysql.general_log WHERE command_type = 'Query'"
    )
    assert {str(row[0]).partition("[")[0] for row in asked} == {ACCOUNT, "root"}
    assert 0 < host.database.count_selects(ACCOUNT) < 10


def test_mail_flows_without_the_database(
    host: MailHost, alice: MailClient, bob: MailClient
) -> None:
    """With the database gone, known users log in, send and receive as before."""
    alice.send("builder@example.com", "before")
    bob.wait_for("before")
    host.database.stop()
    try:
        alice.send("builder@example.com", "without database")
        bob.wait_for("without database")
        assert "without database" in bob.pop3_subjects()
    finally:
        host.database.start()
