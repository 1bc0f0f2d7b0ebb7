"""Socket activation without systemd.

The sockets stay open here while the daemon behind them is stopped, replaced and started again.

with ActivatedDaemon(directory, TOML) as daemon:      # listens, then starts it with LISTEN_FDS, sd_listen_fds(3)
    daemon.restart()                                  # SIGTERM, wait for the end, start: as `systemctl restart` does
    daemon.restart(other_source)                      # the same with another copy of the package: an upgrade
"""

from __future__ import annotations

import fcntl
import shutil
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

import mailmapd
from support.daemon import SOURCE, Daemon
from support.process import ServerProcess

BACKLOG = 4096
LAUNCHER = """
import os, sys
descriptors = [int(number) for number in sys.argv[1].split(",")]
for place, descriptor in enumerate(descriptors, 3):
    os.dup2(descriptor, place)
os.environ |= {"LISTEN_FDS": str(len(descriptors)), "LISTEN_PID": str(os.getpid())}
os.execv(sys.executable, [sys.executable, "-m", "mailmapd", "serve", "--config", sys.argv[2]])
"""
FIRST_FREE = 64  # the sockets' numbers here: above those that the launcher gives them


class ActivatedDaemon(Daemon):
    """A daemon whose sockets are opened before it and outlive it."""

    def __init__(
        self, directory: Path, config: str, *, environment: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(directory, config, environment=environment)
        self.source = SOURCE
        self._starts = 0
        self._sockets = [self._listen(address) for address in self.addresses()]

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        super().__exit__(kind, error, trace)
        for listening in self._sockets:
            listening.close()

    def start(self) -> None:
        """Start the daemon; clients may connect before it answers."""
        self._starts += 1
        numbers = ",".join(str(listening.fileno()) for listening in self._sockets)
        command = [sys.executable, "-c", LAUNCHER, numbers, str(self.config)]
        environment = dict(self._environment) | {"PYTHONPATH": str(self.source)}
        descriptors = [listening.fileno() for listening in self._sockets]
        self._process = ServerProcess(
            command, self.log, cwd=self.directory, env=environment, descriptors=descriptors
        )

    def restart(self, source: Path | None = None) -> int:
        """Stop the daemon, start it (from another copy of the package), and return the exit status of the one before.

        A daemon that is still starting is waited for: SIGTERM would end it before it drains.
        """
        self.process.wait_ready(lambda: self.text().count("ready: ") == self._starts, "mailmapd")
        status = self.stop()
        self.source = source or self.source
        self.start()
        return status

    @staticmethod
    def _listen(address: str) -> socket.socket:
        unix = address.startswith("unix:")
        listening = socket.socket(socket.AF_UNIX if unix else socket.AF_INET)
        if unix:
            listening.bind(address.removeprefix("unix:"))
            Path(address.removeprefix("unix:")).chmod(0o666)
        else:
            host, _, port = address.rpartition(":")
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind((host, int(port)))
        listening.listen(BACKLOG)
        try:
            return socket.socket(fileno=fcntl.fcntl(listening, fcntl.F_DUPFD_CLOEXEC, FIRST_FREE))
        finally:
            listening.close()


def copy_of_package(folder: Path, version: str) -> Path:
    """Copy the package under another version, as an upgrade would install it; return the folder to import it from."""
    shutil.copytree(
        Path(mailmapd.__file__).parent,
        folder / "mailmapd",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    module = folder / "mailmapd" / "__init__.py"
    module.write_text(module.read_text().replace(mailmapd.__version__, version))
    return folder
