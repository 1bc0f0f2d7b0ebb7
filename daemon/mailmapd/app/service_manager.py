"""Telling systemd how the service is, see sd_notify(3). Without systemd (no $NOTIFY_SOCKET) nothing is sent."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import MutableMapping

log = logging.getLogger(__name__)


class ServiceManager:
    """The service manager that started this process, if there is one.

    `watchdog` is the number of seconds within which it wants a sign of life, or 0.
    """

    def __init__(self, environment: MutableMapping[str, str] = os.environ) -> None:
        address = environment.pop("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        microseconds = environment.pop("WATCHDOG_USEC", "0")
        addressee = environment.pop("WATCHDOG_PID", str(os.getpid()))
        self.watchdog = (
            int(microseconds) / 1e6
            if microseconds.isdigit() and addressee == str(os.getpid())
            else 0.0
        )

    def ready(self, status: str) -> None:
        """Say that the service answers (again)."""
        self._send(f"READY=1\nSTATUS={_one_line(status)}")

    def reloading(self) -> None:
        """Say that the configuration is being read again; `ready` ends it."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def status(self, status: str) -> None:
        """Say in one line how the service is, and that it is alive."""
        self._send(f"STATUS={_one_line(status)}\nWATCHDOG=1")

    def stopping(self) -> None:
        """Say that the service is going away."""
        self._send("STOPPING=1\nSTATUS=finishing the lookups in flight")

    def _send(self, message: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as manager:
                manager.connect(self._address)
                manager.send(message.encode())
        except OSError as error:
            log.warning("cannot notify systemd: %s", error.strerror)


def _one_line(status: str) -> str:
    """Return the text without what would begin another assignment.

    A database's error repeats the query, with its line feeds.
    """
    return " ".join(status.split())
