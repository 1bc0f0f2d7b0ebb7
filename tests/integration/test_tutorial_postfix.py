"""A chrooted Postfix that knows its domains, aliases and mailboxes only from the daemon, with the
tutorial's database behind it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from support import tutorial
from support.clients import SocketmapClient
from support.daemon import Daemon
from support.mariadb import MariaDB, private_directory
from support.postfix import Postfix
from support.process import free_port, wait_until

pytestmark = [pytest.mark.servers, pytest.mark.root]

DATABASE = "tutorial_acceptance"
EQUAL_MISSES = 1000

CONFIG = """
[listen]
socketmap = [{{address = "unix:{socket}", mode = "0666"}}]
http = "127.0.0.1:{port}"

[database.mail]
driver = "mysql"
hosts = ["unix:{mysql}"]
user = "{user}"
password = "{password}"
dbname = "{dbname}"
query_timeout = "60s"

[table.domain]
database = "mail"
query = "SELECT 1 FROM email_user WHERE mail_domain = '%s' LIMIT 1"
[table.mailbox]
database = "mail"
query = "SELECT mail_dir FROM email_user WHERE mail_account = '%s'"
[table.alias]
database = "mail"
query = "SELECT destination FROM email_aliase WHERE aliase = '%s'"

[map.virtual_mailbox_domains]
tables = ["domain"]
search = "exact"
[map.virtual_mailbox_maps]
tables = ["mailbox"]
search = "address"
recipient_delimiter = "+"
[map.virtual_alias_maps]
tables = ["alias"]
search = "address"
recipient_delimiter = "+"
propagate_unmatched_extensions = true
"""
MAPS = ("virtual_mailbox_domains", "virtual_alias_maps", "virtual_mailbox_maps")


@dataclass(frozen=True)
class Stack:
    """The three servers."""

    mariadb: MariaDB
    postfix: Postfix
    daemon: Daemon

    def lookup(self, name: str, key: str) -> bytes | None:
        """Ask one map with postmap, over the socket's name as main.cf has it."""
        return self.postfix.lookup(f"socketmap:unix:mailmapd/socketmap:{name}", key.encode())


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """The servers, started in the order in which each needs the one before."""
    with ExitStack() as servers:
        mariadb = servers.enter_context(MariaDB(servers.enter_context(private_directory())))
        tutorial.create(mariadb, DATABASE)
        settings = {name: f"socketmap:unix:mailmapd/socketmap:{name}" for name in MAPS}
        directory = servers.enter_context(private_directory())
        postfix = Postfix(
            directory,
            settings | {"recipient_delimiter": "+", "virtual_transport": "lmtp:unix:private/lmtp"},
            chroot=True,
        )
        config = CONFIG.format(
            socket=postfix.link_socket("mailmapd/socketmap"),
            port=free_port(),
            mysql=mariadb.socket,
            user=tutorial.USER,
            password=tutorial.PASSWORD,
            dbname=DATABASE,
        )
        daemon = servers.enter_context(Daemon(servers.enter_context(private_directory()), config))
        yield Stack(mariadb, servers.enter_context(postfix), daemon)


@pytest.mark.parametrize(
    ("recipient", "queued"),
    [
        ("alice@example.com", ["alice@example.com"]),
        ("Alice+News@Example.com", ["Alice+News@Example.com"]),
        ("postmaster@example.com", ["alice@example.com"]),
        ("postmaster+x@example.com", ["alice+x@example.com"]),
        ("team@example.com", ["alice@example.com", "bob@example.com", "carol@example.net"]),
        ("far@example.com", ["someone@elsewhere.test"]),
        ("move+x@example.com", ["move+x@example.net"]),
        ("anybody@example.org", ["eve@example.com"]),
        ("chain@example.com", ["alice@example.com"]),
    ],
)
def test_known_recipients_are_accepted(stack: Stack, recipient: str, queued: list[str]) -> None:
    """A mailbox, an alias, an extension and a catch-all are accepted and end with their recipients in the queue."""
    stack.postfix.purge()
    assert stack.postfix.send("sender@client.test", [recipient]) == ["250 2.1.5 Ok"]
    assert [message.addresses for message in stack.postfix.queue()] == [queued]


@pytest.mark.parametrize(
    ("recipient", "verdict"),
    [
        (
            "nobody@example.com",
            "550 5.1.1 <nobody@example.com>: Recipient address rejected: User unknown in virtual mailbox table",
        ),
        ("alice@unhosted.test", "554 5.7.1 <alice@unhosted.test>: Relay access denied"),
    ],
)
def test_unknown_recipients_are_refused(stack: Stack, recipient: str, verdict: str) -> None:
    """An unknown user of a hosted domain gets 550, and a domain that is not hosted is not relayed."""
    assert stack.postfix.send("sender@client.test", [recipient]) == [verdict]


def test_postmap_answers_every_map(stack: Stack) -> None:
    """`postmap -q` in the queue directory finds values, and tells "not found" without an error."""
    assert stack.lookup("virtual_mailbox_domains", "example.com") == b"1"
    assert stack.lookup("virtual_mailbox_maps", "alice@example.com") == b"example.com/alice/"
    assert stack.lookup("virtual_alias_maps", "postmaster@example.com") == b"alice@example.com"
    assert stack.lookup("virtual_alias_maps", "example.com") is None
    assert stack.lookup("virtual_mailbox_maps", "nobody@example.com") is None


@pytest.mark.parametrize("recipient", ["dave@example.net", "nobody-at-all@example.net"])
def test_second_mail_sends_no_sql(stack: Stack, recipient: str) -> None:
    """A second message to the same recipient, known or not, sends no SQL at all."""
    stack.mariadb.log_queries()
    first = stack.postfix.send("sender@client.test", [recipient])
    asked = stack.mariadb.count_selects(tutorial.USER)
    assert asked > 0
    assert stack.postfix.send("sender@client.test", [recipient]) == first
    assert stack.mariadb.count_selects(tutorial.USER) == asked


def test_equal_misses_share_one_query(stack: Stack) -> None:
    """1 000 connections that ask for the same key at once send one query between them."""
    key = b"zo\xc3\xab@example.org"
    metric = 'mailmapd_cache_requests_total{{outcome="{}",table="mailbox"}}'
    stack.lookup(
        "virtual_mailbox_maps", "warm-up@example.org"
    )  # so that a connection to the database exists before the lock
    before = stack.daemon.metrics()
    stack.mariadb.log_queries()
    with ExitStack() as opened:
        clients: list[SocketmapClient] = [
            opened.enter_context(stack.daemon.socketmap()) for _ in range(EQUAL_MISSES)
        ]
        lock = opened.enter_context(stack.mariadb.connect(DATABASE))
        lock.query("LOCK TABLES email_user WRITE")
        for client in clients:
            client.send(client.request("virtual_mailbox_maps", key))
        shared = metric.format("coalesced")
        wait_until(
            lambda: stack.daemon.metrics()[shared] - before[shared] == EQUAL_MISSES - 1,
            "all misses wait for one query",
        )
        lock.query("UNLOCK TABLES")
        assert {client.receive() for client in clients} == {("OK", "example.org/zoë/".encode())}
    assert stack.mariadb.count_selects(tutorial.USER) == 1
    assert stack.daemon.metrics()[metric.format("miss")] - before[metric.format("miss")] == 1


def test_postfix_sends_no_sql(stack: Stack) -> None:
    """Every connection to the database is the daemon's: Postfix has no mysql: map and opens none."""
    configured = stack.postfix.run("postconf", "-n").stdout.decode()
    assert "mysql:" not in configured
    assert stack.postfix.text().count("warning:") == 0, stack.postfix.text()
