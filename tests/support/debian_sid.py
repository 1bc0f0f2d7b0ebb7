"""Debian's unstable release with MySQL 9 in a kept folder, see `KeptDebian`: no stable release has MySQL.

    with DebianSid() as system, Mysql9(system, certificates) as server:
        server.run_sql("CREATE DATABASE mail")

The server listens on a UNIX socket and on a loopback port; its RSA key is of its own making.
"""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Sequence
from types import TracebackType

from support.certificates import Certificates
from support.kept_debian import KeptDebian
from support.process import free_port
from support.sql_server import SqlServer

ACCOUNT = "mysql"
TEMPLATE = "/srv/mysql-template"
DIRECTORY = "/srv/mysql-{}"
"""Where the data of a server is, by the process of its test and a number."""

_NUMBERS = itertools.count()

# Durability is of no use to a test.
FAST_SETTINGS = (
    "--innodb-flush-log-at-trx-commit=2",
    "--innodb-flush-method=nosync",
    "--innodb-doublewrite=OFF",
    "--innodb-buffer-pool-size=16M",
    "--table-open-cache=200",
    "--max-connections=100",
    "--performance-schema=OFF",
    "--disable-log-bin",
    "--mysqlx=OFF",
    "--secure-file-priv=NULL",
    "--skip-name-resolve",
)


class DebianSid(KeptDebian):
    """The system; `folder` is its root directory, TEMPLATE in it a fresh data directory."""

    shared = True

    def __init__(self) -> None:
        super().__init__("sid", "sid", include=["mysql-server-core"])

    def prepare(self) -> None:
        """Make the server's account and a data directory to copy from.

        Root has no password, no other account is there.
        """
        self.run("useradd", "--system", "--no-create-home", ACCOUNT)
        self.run("install", "--directory", f"--owner={ACCOUNT}", TEMPLATE)
        self.run(
            "mysqld",
            "--no-defaults",
            "--initialize-insecure",
            f"--user={ACCOUNT}",
            f"--datadir={TEMPLATE}",
            *FAST_SETTINGS,
        )


class Mysql9(SqlServer):
    """A running private server on fresh data, with the given certificates.

    `settings` are further mysqld options for the next start.
    """

    def __init__(self, system: DebianSid, certificates: Certificates) -> None:
        self._inside = DIRECTORY.format(f"{os.getpid()}-{next(_NUMBERS)}")
        super().__init__("MySQL 9", system.path(self._inside), free_port())
        self._system = system
        self._certificates = certificates
        self.settings: Sequence[str] = ()

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
            *[
                "mysqld",
                "--no-defaults",
                f"--user={ACCOUNT}",
                f"--datadir={self._inside}/data",
                f"--socket={self._inside}/{self.socket.name}",
            ],
            *[
                f"--port={self.port}",
                "--bind-address=127.0.0.1",
                f"--pid-file={self._inside}/mysqld.pid",
                "--log-output=TABLE",
            ],
            *[*FAST_SETTINGS, *self.settings],
        ]
        self._process = self._system.start(command, self.directory / "mysqld.log")
        self._process.wait_ready(self.answers, "mysqld")

    def _make_directory(self) -> None:
        """Begin with fresh data, whatever an earlier test has left."""
        shutil.rmtree(self.directory, ignore_errors=True)
        self._system.run("install", "--directory", f"--owner={ACCOUNT}", self._inside)
        self._system.run("cp", "--archive", "--sparse=always", TEMPLATE, f"{self._inside}/data")
        (self.directory / "data" / "auto.cnf").unlink(missing_ok=True)  # a UUID of its own
        # In place of those that the server has made for itself, which bear no host's name.
        files = self._certificates
        for source, name in (
            (files.ca, "ca.pem"),
            (files.server, "server-cert.pem"),
            (files.server_key, "server-key.pem"),
        ):
            shutil.copyfile(source, self.directory / "data" / name)

    def grant(
        self, user: str, password: str, database: str, privileges: str = "SELECT, EXECUTE"
    ) -> None:
        """Create an account that may read one database, from everywhere."""
        for host in ("localhost", "127.0.0.1"):
            self.run_sql(f"DROP USER IF EXISTS '{user}'@'{host}'")
            self.run_sql(
                f"CREATE USER '{user}'@'{host}' IDENTIFIED WITH caching_sha2_password BY %s",
                password,
            )
            self.run_sql(f"GRANT {privileges} ON `{database}`.* TO '{user}'@'{host}'")

    def forget_passwords(self) -> None:
        """Empty the server's cache of password hashes: the next login of every account must give the whole password."""
        self.run_sql("FLUSH PRIVILEGES")
