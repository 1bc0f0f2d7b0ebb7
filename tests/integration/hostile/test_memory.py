"""Memory under floods, by what the system counts: it stays where it may be, and comes back."""

from __future__ import annotations

import signal
import socket
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from support.daemon import Daemon
from support.postfix import Postfix
from support.process import free_port, wait_until
from support.process_figures import resident_bytes

MIB = 2**20
CONFIG = """
[listen]
socketmap = [{{address = "unix:{socket}", mode = "0666"}}]
http = "127.0.0.1:{http}"
control = "unix:{folder}/control"
[limits]
drain_timeout = "0.05s"
[database.mail]
driver = "sqlite"
path = "{folder}/mail.sqlite"
[database.mail.changes]
follow = "{follow}"
[cache]
max_bytes = "{max_bytes}"
max_negative_entries = 10_000_000
ttl = "1h"
negative_ttl = "1h"
[table.domain]
database = "mail"
query = "SELECT 1 WHERE '%s' = 'example.com'"
[table.mailbox]
database = "mail"
query = "SELECT '%s/' WHERE substr('%u', 1, 5) = 'known'"
[map.domains]
tables = ["domain"]
[map.mailboxes]
tables = ["mailbox"]
search = "address"
"""
KNOWN = 5000
UNKNOWN = 20_000
LONG = 900  # bytes of a key that is kept
WINDOW = 200  # questions on their way

Start = Callable[..., Daemon]


@pytest.fixture
def start(short_path: Path) -> Iterator[Start]:
    """Start daemons with some memory for their caches."""
    sqlite3.connect(short_path / "mail.sqlite").close()
    with ExitStack() as stack:

        def begin(
            max_bytes: str, where: Path = short_path / "socketmap", follow: str = "auto"
        ) -> Daemon:
            config = CONFIG.format(
                folder=short_path,
                http=free_port(),
                socket=where,
                max_bytes=max_bytes,
                follow=follow,
            )
            return stack.enter_context(Daemon(short_path, config))

        yield begin


def ask(daemon: Daemon, keys: Iterator[bytes]) -> None:
    """Ask for every key, with many on their way at a time."""
    with daemon.connect("socketmap") as connection:
        stream = connection.makefile("rb")
        batch: list[bytes] = []
        for key in keys:
            request = b"mailboxes " + key
            batch.append(b"%d:%b," % (len(request), request))
            if len(batch) == WINDOW:
                _exchange(connection, stream, batch)
        _exchange(connection, stream, batch)


def _exchange(connection: socket.socket, stream: object, batch: list[bytes]) -> None:
    connection.sendall(b"".join(batch))
    for _ in batch:
        length = b""
        while (byte := stream.read(1)) != b":":  # type: ignore[attr-defined]
            length += byte
        assert stream.read(int(length) + 1)[:2] in (b"OK", b"NO")  # type: ignore[attr-defined]
    batch.clear()


def known() -> Iterator[bytes]:
    for number in range(KNOWN):
        yield b"known%d@example.com" % number


def unknown(length: int) -> Iterator[bytes]:
    for number in range(UNKNOWN):
        yield (b"%d" % number).rjust(length - 12, b"x") + b"@example.com"


def held(daemon: Daemon) -> float:
    return sum(
        value for name, value in daemon.metrics().items() if name.startswith("mailmapd_cache_bytes")
    )


def misses(daemon: Daemon) -> float:
    return daemon.metrics()['mailmapd_cache_requests_total{outcome="miss",table="mailbox"}']


def test_flood_of_long_unknown_keys(start: Start) -> None:
    """Unknown keys of 900 bytes fill their share and no more, no known one is asked for again, and
    a flush gives the memory back.
    """
    daemon = start("16MiB", follow="no")  # an audit asks for known ones again
    ask(daemon, known())
    before = resident_bytes(daemon.process.pid)
    ask(daemon, unknown(LONG))
    assert resident_bytes(daemon.process.pid) - before < 16 * MIB
    assert held(daemon) <= daemon.metrics()["mailmapd_cache_max_bytes"] == 16 * MIB
    asked = misses(daemon)
    ask(daemon, known())
    assert misses(daemon) == asked
    full = resident_bytes(daemon.process.pid)
    assert daemon.command("flush", "--all").returncode == 0
    assert held(daemon) == 0
    wait_until(
        lambda: resident_bytes(daemon.process.pid) < min(full - 2 * MIB, before + 6 * MIB),
        "the memory to come back",
    )


def test_flood_of_endless_keys(start: Start) -> None:
    """Nothing is kept of keys that are longer than any address, but SQLite's last statements: 5 000
    of them would be 100 MB.
    """
    daemon = start("64MiB")
    ask(daemon, known())
    before, counted = resident_bytes(daemon.process.pid), held(daemon)
    ask(daemon, (key for key, _ in zip(unknown(9_900), range(5000), strict=False)))
    assert held(daemon) == counted
    assert resident_bytes(daemon.process.pid) - before < 48 * MIB


def test_nothing_is_left_behind_by_a_reload(start: Start) -> None:
    """A hundred reloads, each with new tables, leave the process as large as twenty."""
    daemon = start("64MiB")
    text = daemon.config.read_text()

    def reload(first: int, last: int) -> int:
        for number in range(first, last):
            daemon.write_config(text.replace('ttl = "1h"', f'ttl = "{number}m"', 1))
            daemon.process.send_signal(signal.SIGHUP)
            time.sleep(0.1)
        time.sleep(4)
        return resident_bytes(daemon.process.pid)

    after_some = reload(1, 21)
    assert reload(21, 121) - after_some < MIB
    assert "defect" not in daemon.text()


@pytest.mark.root
@pytest.mark.servers
def test_long_recipients_through_smtpd(start: Start, short_path: Path) -> None:
    """What a stranger writes behind RCPT TO, as long as smtpd takes it, is asked for and leaves next to nothing."""
    (short_path / "postfix").mkdir(mode=0o755)
    with Postfix(
        short_path / "postfix",
        {
            "virtual_mailbox_domains": "socketmap:unix:mailmapd/socketmap:domains",
            "virtual_mailbox_maps": "socketmap:unix:mailmapd/socketmap:mailboxes",
            "smtpd_recipient_limit": "100000",
            "smtpd_hard_error_limit": "100000",
            "smtpd_soft_error_limit": "100000",
            "smtpd_junk_command_limit": "100000",
        },
    ) as postfix:
        folder = postfix.queue_directory / "mailmapd"
        folder.mkdir()
        # What reads queries, so that the file can be followed, is loaded at some moment, and is larger than that
        daemon = start("64MiB", folder / "socketmap", follow="no")
        with postfix.smtp() as session:
            session.mail("sender@example.net")
            assert session.rcpt("known1@example.com").startswith("250")
            counted, before = held(daemon), resident_bytes(daemon.process.pid)
            for number in range(500):
                local = f"{number}".rjust(1800, "x")
                assert session.rcpt(f"{local}@example.com").startswith("550")
        assert misses(daemon) > 500
        assert held(daemon) - counted < 100_000
        assert resident_bytes(daemon.process.pid) - before < 8 * MIB
