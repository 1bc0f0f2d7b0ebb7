"""The demonstration's visitors: lookups as a mail server would send them, so that `top` has something to show."""

from __future__ import annotations

import random
import socket
import threading
from pathlib import Path

from mailmapd.demo.mail_database import ACCOUNTS_PER_DOMAIN, DOMAINS

_CONNECT_SECONDS = 0.2  # between attempts to reach a daemon that is still starting
_ANSWER_SECONDS = 5.0  # within which an answer comes, or the daemon is on its way out
_UNKNOWN_PART = 0.1  # of the recipients do not exist


class Visitors:
    """Asks `rate` recipients a second in a thread of its own, until `leave` or until the daemon is gone."""

    def __init__(self, path: Path, rate: float, seed: int = 1) -> None:
        self._path = path
        self._pause = 1.0 / rate
        self._random = random.Random(seed)  # noqa: S311 (addresses of a demonstration)
        self._leaving = threading.Event()
        self._thread = threading.Thread(target=self._visit, name="visitors", daemon=True)

    def come(self) -> None:
        """Begin to ask, as soon as the daemon listens."""
        self._thread.start()

    def leave(self) -> None:
        """Ask no more."""
        self._leaving.set()
        self._thread.join()

    def _visit(self) -> None:
        while not self._leaving.wait(_CONNECT_SECONDS):
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(_ANSWER_SECONDS)
                try:
                    connection.connect(str(self._path))
                except OSError:
                    continue  # it does not listen yet, or not any more
                self._ask(connection)

    def _ask(self, connection: socket.socket) -> None:
        while not self._leaving.wait(self._pause):
            user, domain = self._recipient()
            for name, key in (
                ("virtual_mailbox_domains", domain),
                ("virtual_alias_maps", f"{user}@{domain}"),
                ("virtual_mailbox_maps", f"{user}@{domain}"),
            ):
                text = f"{name} {key}"
                try:
                    connection.sendall(f"{len(text)}:{text},".encode())
                    if not connection.recv(4096):
                        return
                except OSError:
                    return

    def _recipient(self) -> tuple[str, str]:
        """Return a user, a few of whom get most of the mail, and a domain."""
        number = int(ACCOUNTS_PER_DOMAIN * self._random.random() ** 3) + 1
        known = self._random.random() >= _UNKNOWN_PART
        return f"user{number}" if known else f"nobody{number}", self._random.choice(DOMAINS)
