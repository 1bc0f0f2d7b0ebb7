"""What the daemon and systemd say to each other: sockets, ready, reloading, status, watchdog, stopping.

Without a booted systemd.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mailmapd.demo import mail_database
from support.clients import SocketmapClient, TcpTableClient, connect
from support.daemon import SOURCE
from support.process import ServerProcess, free_port, wait_until

CONFIG = """
[listen]
socketmap = ["unix:{folder}/a", "unix:{folder}/b"]
http = "127.0.0.1:{http}"
[listen.tcp_table]
boxes = "127.0.0.1:{table}"
[database.mail]
driver = "sqlite"
path = "{folder}/mail.sqlite"
[table.mailbox]
database = "mail"
query = "SELECT mail_dir FROM email_user WHERE mail_account = '%s'"
[map.boxes]
tables = ["mailbox"]
search = "address"
"""
DEADLINE_SECONDS = 30.0


class Manager:
    """The receiving end of sd_notify(3), and a way to start the daemon with it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.http, self.table = free_port(), free_port()
        mail_database.create(folder / "mail.sqlite")
        (folder / "mailmapd.toml").write_text(
            CONFIG.format(folder=folder, http=self.http, table=self.table)
        )
        self.notifications = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notifications.bind(str(folder / "notify"))
        self.notifications.settimeout(DEADLINE_SECONDS)

    def start(self, *launcher: str, watchdog: float = 30.0) -> ServerProcess:
        """Start `mailmapd serve`, by way of a launcher if one is given."""
        command = [
            *launcher,
            sys.executable,
            "-m",
            "mailmapd",
            "serve",
            "--config",
            str(self.folder / "mailmapd.toml"),
        ]
        own = {
            "PYTHONPATH": str(SOURCE),
            "NOTIFY_SOCKET": str(self.folder / "notify"),
            "WATCHDOG_USEC": str(int(watchdog * 1e6)),
        }
        return ServerProcess(
            command, self.folder / "mailmapd.log", cwd=self.folder, env=os.environ | own
        )

    def wait_for(self, assignment: str) -> dict[str, str]:
        """Return the first notification that holds an assignment such as READY=1."""
        while True:
            message = dict(
                line.split("=", 1) for line in self.notifications.recv(4096).decode().splitlines()
            )
            name, _, value = assignment.partition("=")
            if message.get(name) == value:
                return message


@pytest.fixture
def manager(short_path: Path) -> Iterator[Manager]:
    manager = Manager(short_path)
    yield manager
    manager.notifications.close()


def test_life_in_notifications(manager: Manager) -> None:
    """Ready when it answers, reloading with the time that systemd wants, ready again, stopping.

    Each is told, with a status.
    """
    daemon = manager.start()
    try:
        manager.wait_for("READY=1")
        with SocketmapClient(connect(f"unix:{manager.folder}/a")) as client:
            assert client.ask("boxes", b"user1@example.com") == ("OK", b"example.com/user1/")
        daemon.send_signal(signal.SIGHUP)
        assert int(manager.wait_for("RELOADING=1")["MONOTONIC_USEC"]) > 0
        manager.wait_for("READY=1")
        (manager.folder / "mailmapd.toml").write_text("nonsense")
        daemon.send_signal(signal.SIGHUP)
        manager.wait_for("RELOADING=1")
        assert "refused" in manager.wait_for("READY=1")["STATUS"]
        daemon.send_signal(signal.SIGTERM)
        manager.wait_for("STOPPING=1")
    finally:
        assert daemon.stop() == 0


def test_green_means_tried(manager: Manager) -> None:
    """Ready or not, the status names a database that has not answered yet, and is renewed as soon as it has."""
    (manager.folder / "mail.sqlite").rename(manager.folder / "away")
    daemon = manager.start()
    try:
        assert "database mail: not reached yet" in manager.wait_for("READY=1")["STATUS"]
        (manager.folder / "away").rename(manager.folder / "mail.sqlite")
        assert "all databases up" in manager.wait_for("WATCHDOG=1")["STATUS"]
    finally:
        assert daemon.stop() == 0


def test_watchdog_is_fed_in_time(manager: Manager) -> None:
    """The loop gives its sign of life at least twice in the watchdog's time, with the hit ratio in the status."""
    daemon = manager.start(watchdog=0.2)
    try:
        manager.wait_for("READY=1")
        with SocketmapClient(connect(f"unix:{manager.folder}/a")) as client:
            for _ in range(2):
                client.ask("boxes", b"user1@example.com")
        wait_until(
            lambda: "50.0% of 2 from memory" in manager.wait_for("WATCHDOG=1")["STATUS"],
            "the status does not show the hit ratio",
        )
    finally:
        assert daemon.stop() == 0


@pytest.mark.skipif(
    shutil.which("systemd-socket-activate") is None,
    reason="systemd-socket-activate is not installed",
)
def test_handed_over_sockets_are_served_and_left_alone(manager: Manager) -> None:
    """A handed-over socket serves the listener configured for its address, other listeners are opened.

    Systemd's files stay.
    """
    addresses = [f"{manager.folder}/a", f"127.0.0.1:{manager.http}", f"127.0.0.1:{manager.table}"]
    names = "socketmap:http:tcp_table.boxes"
    pass_on = [f"--setenv={name}" for name in ("PYTHONPATH", "NOTIFY_SOCKET", "WATCHDOG_USEC")]
    daemon = manager.start(
        "systemd-socket-activate",
        *(f"--listen={address}" for address in addresses),
        f"--fdname={names}",
        *pass_on,
    )
    try:
        daemon.wait_ready(
            lambda: daemon.text().count("Listening on") == len(addresses), "systemd-socket-activate"
        )
        with SocketmapClient(
            connect(f"unix:{manager.folder}/a")
        ) as client:  # this connection starts the daemon
            assert client.ask("boxes", b"user1@example.com") == ("OK", b"example.com/user1/")
        manager.wait_for("READY=1")
        with SocketmapClient(connect(f"unix:{manager.folder}/b")) as client:
            assert client.ask("boxes", b"user1@example.com").status == "OK"
        with TcpTableClient(connect(f"127.0.0.1:{manager.table}")) as client:
            assert client.ask(b"user1@example.com").status == "200"
        connect(f"127.0.0.1:{manager.http}").close()
    finally:
        assert daemon.stop() == 0
    assert (manager.folder / "a").is_socket()
    assert not (manager.folder / "b").exists()
