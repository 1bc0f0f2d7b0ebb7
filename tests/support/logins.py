"""Logins over IMAP, as a mail program does them."""

from __future__ import annotations

import imaplib

from support.dovecot import Verdict

TIMEOUT = 60.0  # seconds


def imap_login(port: int, user: str, password: str) -> Verdict:
    """Log in on a port of 127.0.0.1, and out again."""
    session = imaplib.IMAP4("127.0.0.1", port, timeout=TIMEOUT)
    try:
        session.login(user, password)
    except imaplib.IMAP4.error as error:
        session.shutdown()
        return Verdict.REFUSED if "AUTHENTICATIONFAILED" in str(error) else Verdict.FAILED
    session.logout()
    return Verdict.ACCEPTED
