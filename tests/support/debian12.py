"""Debian 12 with Postfix 3.7, Dovecot 2.3 and MariaDB 10.11 in a kept folder, see `KeptDebian`."""

from __future__ import annotations

from support.kept_debian import KeptDebian

PACKAGES = (
    *("systemd-sysv", "dbus", "procps", "python3-venv", "dpkg-dev"),
    *("ca-certificates", "openssl", "ssl-cert", "curl"),
    *("postfix", "postfix-mysql", "mariadb-server"),
    *("dovecot-core", "dovecot-imapd", "dovecot-pop3d", "dovecot-lmtpd", "dovecot-mysql"),
)


class Debian12(KeptDebian):
    """The system; `folder` is its root directory."""

    def __init__(self) -> None:
        super().__init__("debian12", "bookworm", PACKAGES)
