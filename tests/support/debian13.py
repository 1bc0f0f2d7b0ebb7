"""Debian 13 with Postfix 3.10, Dovecot 2.4 and MariaDB 11.8 in a kept folder, see `KeptDebian`.

with Debian13() as system, Mariadb11(system) as server:
    server.run_sql("CREATE DATABASE mail")
"""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Sequence
from types import TracebackType

from support.kept_debian import KeptDebian
from support.mariadb import FAST_SETTINGS, SERVER_ACCOUNT, MariaDB

PACKAGES = (
    *("systemd-sysv", "dbus", "procps", "python3-venv", "dpkg-dev"),
    *("ca-certificates", "openssl", "ssl-cert", "curl"),
    *("postfix", "postfix-mysql", "mariadb-server"),
    *("dovecot-core", "dovecot-imapd", "dovecot-pop3d", "dovecot-lmtpd"),
    *("dovecot-auth-lua", "dovecot-mysql"),
)


class Debian13(KeptDebian):
    """The system; `folder` is its root directory."""

    def __init__(self) -> None:
        super().__init__("debian13", "trixie", PACKAGES)


DATA = "/var/lib/mysql"
"""The data directory that the package has made, and that no server has used."""

_NUMBERS = itertools.count()


class Mariadb11(MariaDB):
    """The system's own MariaDB: a running private server, on a copy of the data that the package has made."""

    def __init__(self, system: Debian13, *, settings: Sequence[str] = ()) -> None:
        self._inside = f"/srv/mariadb-{os.getpid()}-{next(_NUMBERS)}"
        super().__init__(system.path(self._inside), tcp=True, settings=settings)
        self._system = system

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        super().__exit__(kind, error, trace)
        shutil.rmtree(self.directory, ignore_errors=True)

    def start(self) -> None:
        """Start the server (again, on the same data, socket and port) and wait until it answers."""
        if self._process is None:
            self._make_directory()
        command = [
            *["mariadbd", "--no-defaults", f"--user={SERVER_ACCOUNT}"],
            *[f"--datadir={self._inside}/data", f"--tmpdir={self._inside}"],
            *[f"--socket={self._inside}/{self.socket.name}", f"--port={self.port}"],
            *["--bind-address=127.0.0.1", f"--pid-file={self._inside}/mariadbd.pid"],
            *[f"--init-file={self._inside}/init.sql", *FAST_SETTINGS, *self._options],
        ]
        self._process = self._system.start(command, self.directory / "mariadb.log")
        self._process.wait_ready(self.answers, "mariadbd in the Debian 13 system")

    def _make_directory(self) -> None:
        """Begin with fresh data, in which root needs no password, whatever an earlier test has left."""
        shutil.rmtree(self.directory, ignore_errors=True)
        self._system.run("install", "--directory", f"--owner={SERVER_ACCOUNT}", self._inside)
        self._system.run("cp", "--archive", "--sparse=always", DATA, f"{self._inside}/data")
        # Said at each start, and no change that a replica should have
        init = "SET sql_log_bin = 0;\nALTER USER root@localhost IDENTIFIED BY '';\n"
        self._system.write(f"{self._inside}/init.sql", init)
