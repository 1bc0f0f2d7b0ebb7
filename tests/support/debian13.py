"""Debian 13 with Postfix 3.10, Dovecot 2.4 and MariaDB 11.8 in a kept folder, see `KeptDebian`.

with Debian13() as system, Mariadb11(system) as server:
    server.run_sql("CREATE DATABASE mail")
"""

from __future__ import annotations

from collections.abc import Sequence

from support.kept_debian import KeptDebian
from support.mariadb import FAST_SETTINGS, SERVER_ACCOUNT, MariaDB
from support.server_inside import Inside, ServerInside

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


class Mariadb11(ServerInside, MariaDB):
    """The system's own MariaDB: a running private server, on a copy of the data that the package has made."""

    program = "mariadbd"
    account = SERVER_ACCOUNT
    data = "/var/lib/mysql"

    def __init__(self, system: Debian13, *, settings: Sequence[str] = ()) -> None:
        self.inside = Inside(system, "mariadb")
        super().__init__(self.inside.directory, tcp=True, settings=settings)

    def options(self) -> list[str]:
        """Return those of a test, and that root needs no password."""
        inside = self.inside.path
        own = [f"--tmpdir={inside}", f"--init-file={inside}/init.sql"]
        return [*own, *FAST_SETTINGS, *self._options]

    def prepare(self) -> None:
        """Have root need no password."""
        # Said at each start, and no change that a replica should have
        init = "SET sql_log_bin = 0;\nALTER USER root@localhost IDENTIFIED BY '';\n"
        self.inside.system.write(f"{self.inside.path}/init.sql", init)
