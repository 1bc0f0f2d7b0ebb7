"""Debian 13 with Postfix 3.10 and Dovecot 2.4 in a kept folder, see `KeptDebian`."""

from __future__ import annotations

from support.kept_debian import KeptDebian

PACKAGES = (
    "postfix",
    "dovecot-core",
    "dovecot-imapd",
    "dovecot-pop3d",
    "dovecot-lmtpd",
    "dovecot-auth-lua",
    "dovecot-mysql",
)


class Debian13(KeptDebian):
    """The system; `folder` is its root directory."""

    def __init__(self) -> None:
        super().__init__("debian13", "trixie", PACKAGES)
