"""What clients see while the daemon reloads its configuration, restarts, and is upgraded under load: nothing.

Beside 2 000 lookups a second over 50 connections, real `postmap -q -` loops and a real smtpd ask;
none of them may see a lookup fail. The sockets are those of socket activation: they stay open while
the daemon is away.
"""

from __future__ import annotations

import itertools
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.activation import ActivatedDaemon, copy_of_package
from support.mariadb import MariaDB
from support.numbered_mail import LISTEN, USERS, address, configuration, mailbox
from support.postfix import Postfix
from support.process import free_port, wait_until
from support.traffic import Traffic, reasons, statuses

HOT = 500
RELOADS = int(os.environ.get("MAILMAPD_RELOADS", "10"))
RESTARTS = int(os.environ.get("MAILMAPD_RESTARTS", "3"))
PAUSE = 0.5  # seconds between reloads, and of load before and after
POSTMAP_KEYS = 3_000  # per run of postmap
RECIPIENTS = 200  # per SMTP session
ANSWER_SECONDS = 60.0  # after which a question counts as never answered
UPGRADED = "99.0.0"

pytestmark = [pytest.mark.alone, pytest.mark.servers, pytest.mark.root]

LISTENERS = (
    LISTEN
    + """http = "127.0.0.1:{http}"
[listen.tcp_table]
mailboxes = "127.0.0.1:{tcp}"
[limits]
drain_timeout = "2s"
"""
)


class Asking(threading.Thread):
    """Repeats one question until told to stop; `ask` returns how many lookups it made and what was wrong with them."""

    def __init__(self, ask: Callable[[], tuple[int, list[str]]]) -> None:
        super().__init__(daemon=True)
        self.lookups = 0
        self.failures: list[str] = []
        self._ask = ask
        self._enough = threading.Event()

    def run(self) -> None:
        """Ask again and again."""
        while not self._enough.is_set():
            try:
                lookups, failures = self._ask()
            except (OSError, EOFError, AssertionError) as error:
                lookups, failures = 0, [repr(error)]
            self.lookups += lookups
            self.failures += failures

    def finish(self) -> None:
        """Let the question that is being asked be the last."""
        self._enough.set()
        self.join(ANSWER_SECONDS)
        if self.is_alive():
            self.failures.append(f"no answer for {ANSWER_SECONDS:.0f} s")


class Load:
    """Everything that asks: steady traffic, postmap over both protocols, and smtpd."""

    def __init__(self, daemon: ActivatedDaemon, postfix: Postfix) -> None:
        self.traffic = Traffic(f"{daemon.directory}/socketmap", hot=HOT)
        self._postfix = postfix
        self._numbers = itertools.cycle(range(0, USERS - POSTMAP_KEYS, POSTMAP_KEYS))
        tables = (
            f"socketmap:unix:{daemon.directory}/socketmap:mailboxes",
            f"tcp:{daemon.listeners['tcp_table']['mailboxes']}",
        )
        self.asking = [*(Asking(self._postmap_of(table)) for table in tables), Asking(self._smtp)]

    def _postmap_of(self, table: str) -> Callable[[], tuple[int, list[str]]]:
        def ask() -> tuple[int, list[str]]:
            first = next(self._numbers)
            numbers = range(first, first + POSTMAP_KEYS)
            run = self._postfix.postmap(table, [address(number) for number in numbers])
            right = b"".join(b"%b\t%b\n" % (address(number), mailbox(number)) for number in numbers)
            wrong = (
                []
                if run.found == right and not run.failed
                else [f"{table}: {len(run.found)} of {len(right)} bytes; {run.errors[:500]}"]
            )
            return POSTMAP_KEYS, wrong

        return ask

    def _smtp(self) -> tuple[int, list[str]]:
        failures = []
        with self._postfix.smtp() as session:
            session.mail("sender@example.net")
            first = next(self._numbers)
            for number in range(first, first + RECIPIENTS, 2):
                for code, local in (("250", f"user{number}"), ("550", f"user{USERS + 1 + number}")):
                    reply = session.rcpt(f"{local}@example.com")
                    if not reply.startswith(code):
                        failures.append(reply)
        return RECIPIENTS, failures

    @contextmanager
    def running(self) -> Iterator[None]:
        """Ask as long as the block runs."""
        for client in self.asking:
            client.start()
        try:
            with self.traffic:
                time.sleep(PAUSE)
                yield
                time.sleep(PAUSE)
        finally:
            for client in self.asking:
                client.finish()

    def judge(self) -> None:
        """Fail if any lookup has failed."""
        seen = statuses(self.traffic.samples)
        slowest = max(sample.seconds for sample in self.traffic.samples)
        print(
            f"\n  traffic {dict(seen)}, slowest {slowest:.2f} s; postmap, tcp, smtpd: "
            f"{[client.lookups for client in self.asking]} lookups"
        )
        assert [client.failures[:3] for client in self.asking] == [[], [], []]
        assert set(seen) == {"OK"}, reasons(self.traffic.samples)
        assert all(client.lookups for client in self.asking)


class Site:
    """A daemon with handed-over sockets, and a Postfix that asks it."""

    def __init__(self, folder: Path, server: MariaDB) -> None:
        self.listen = LISTENERS.format(folder=folder, http=free_port(), tcp=free_port())
        self.folder = folder
        self.server = server
        self.daemon = ActivatedDaemon(folder, self.configuration())
        (folder / "postfix").mkdir()
        settings = {
            "virtual_mailbox_domains": "example.com",
            "virtual_mailbox_maps": f"socketmap:unix:{folder}/socketmap:mailboxes",
            "virtual_transport": "discard",
            "virtual_alias_maps": "",
            "recipient_delimiter": "+",
        }
        self.postfix = Postfix(folder / "postfix", settings)
        self.load = Load(self.daemon, self.postfix)

    def configuration(self, pool_size: int = 8) -> str:
        """Return the daemon's configuration; another pool size makes a reload replace the database."""
        text = configuration(self.folder, [f"unix:{self.server.socket}"], self.listen)
        return text.replace("connect_timeout", f"pool_size = {pool_size}\nconnect_timeout", 1)


@pytest.fixture
def site(short_path: Path, server: MariaDB) -> Iterator[Site]:
    site = Site(short_path, server)
    with site.daemon, site.postfix:
        wait_until(
            lambda: "ready:" in site.daemon.text(), "the daemon"
        )  # its sockets take clients before it does, and signals, too
        yield site


def last_reload(site: Site) -> float:
    """Ask the daemon when it last read its configuration.

    Its log would count alike lines instead of writing all of them.
    """
    return site.daemon.metrics()["mailmapd_config_last_reload_success_timestamp_seconds"]


def reload(site: Site) -> None:
    """Send SIGHUP, and wait until the configuration has been read."""
    before = last_reload(site)
    site.daemon.process.send_signal(signal.SIGHUP)
    wait_until(lambda: last_reload(site) > before, "the reload")


def test_reloads(site: Site) -> None:
    """SIGHUP twice a second, with a database section that changes each time: no lookup fails."""
    with site.load.running():
        for number in range(RELOADS):
            site.daemon.write_config(site.configuration(pool_size=4 + number % 2))
            reload(site)
            time.sleep(PAUSE)
    site.load.judge()


def test_wrong_configuration_is_survived(site: Site) -> None:
    """SIGHUP with a configuration that cannot be used, and with a good one again.

    No lookup fails, and /readyz and metrics tell.
    """
    with site.load.running():
        site.daemon.write_config(site.configuration() + "[map.broken]\ntables = ['nothere']\n")
        site.daemon.process.send_signal(signal.SIGHUP)
        wait_until(lambda: "nothere" in site.daemon.text(), "the refusal")
        refused = site.daemon.metrics()["mailmapd_config_last_reload_successful"]
        site.daemon.write_config(site.configuration())
        site.daemon.process.send_signal(signal.SIGHUP)
        wait_until(lambda: "configuration reloaded" in site.daemon.text(), "the reload")
    assert (refused, site.daemon.metrics()["mailmapd_config_last_reload_successful"]) == (0.0, 1.0)
    site.load.judge()


def test_restarts(site: Site) -> None:
    """SIGTERM and a new start behind the same sockets, again and again: no lookup fails."""
    with site.load.running():
        for _ in range(RESTARTS):
            assert site.daemon.restart() == 0
            wait_until(
                lambda: site.daemon.text().count("stopped\n") < site.daemon.text().count("ready: "),
                "the new daemon",
            )
            time.sleep(PAUSE)
    site.load.judge()


def test_upgrade(site: Site, tmp_path: Path) -> None:
    """A restart with another version of the package: no lookup fails, and the new version answers."""
    newer = copy_of_package(tmp_path, UPGRADED)
    with site.load.running():
        assert site.daemon.restart(newer) == 0
        wait_until(lambda: site.daemon.text().count("ready: ") == 2, "the new version")
    assert any(f'version="{UPGRADED}"' in name for name in site.daemon.metrics())
    site.load.judge()
