"""Debian's unstable release with MySQL 9 in a kept folder, see `KeptDebian`: no stable release has MySQL.

    with DebianSid() as system, Mysql9(system, certificates) as server:
        server.run_sql("CREATE DATABASE mail")

The server listens on a UNIX socket and on a loopback port; its RSA key is of its own making.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence

from support.certificates import Certificates
from support.kept_debian import KeptDebian
from support.process import free_port
from support.server_inside import Inside, ServerInside

ACCOUNT = "mysql"
TEMPLATE = "/srv/mysql-template"
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


class Mysql9(ServerInside):
    """A running private server on fresh data, with the given certificates.

    `settings` are further mysqld options for the next start.
    """

    program = "mysqld"
    account = ACCOUNT
    data = TEMPLATE

    def __init__(self, system: DebianSid, certificates: Certificates) -> None:
        self.inside = Inside(system, "mysql")
        super().__init__("MySQL 9", self.inside.directory, free_port())
        self._certificates = certificates
        self.settings: Sequence[str] = ()

    def options(self) -> list[str]:
        """Return those of a test."""
        return ["--log-output=TABLE", *FAST_SETTINGS, *self.settings]

    def prepare(self) -> None:
        """Give the server an identity and certificates of its own."""
        data = self.directory / "data"
        (data / "auto.cnf").unlink(missing_ok=True)  # a UUID of its own
        # In place of those that the server has made for itself, which bear no host's name.
        files = self._certificates
        shutil.copyfile(files.ca, data / "ca.pem")
        shutil.copyfile(files.server, data / "server-cert.pem")
        shutil.copyfile(files.server_key, data / "server-key.pem")

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
