"""Mail that never stops, for a Debian system: a program that runs there and notes every answer it gets.

A word for each answer, a line each: when, whom it was about, what was said. Recipients by SMTP, a message now and then,
and, once /root/reading exists, logins by IMAP. Standard library only, whichever Python the system has.
"""

import imaplib
import itertools
import pathlib
import smtplib
import ssl
import threading
import time

PAUSE_SECONDS = 0.05
WAIT_SECONDS = 110.0  # more than Postfix itself waits for a table
MESSAGES = 8  # sessions for each message
KNOWN = ("you@example.com", "you+list@example.com", "info@example.com")
STRANGER = "stranger@example.com"
PASSWORD = "secret"
LOG = pathlib.Path("/root/stream.log").open("a", buffering=1)  # noqa: SIM115 (as long as the program lives)


def note(who: str, said: object) -> None:
    """Write one answer down."""
    LOG.write(f"{time.time():.3f}\t{who}\t{' '.join(str(said).split())}\n")


def send(number: int) -> None:
    """Ask for each recipient in a session of its own, and perhaps send a message to those who are there."""
    with smtplib.SMTP("localhost", timeout=WAIT_SECONDS) as session:
        session.ehlo()
        session.mail("someone@outside.example")
        codes = []
        for address in KNOWN:
            code, text = session.rcpt(address)
            codes.append(code)
            note(address, f"{code} {text.decode()}")
        code, text = session.rcpt(STRANGER)
        note(STRANGER, f"{code} {text.decode()}")
        if number % MESSAGES == 0 and 250 in codes:
            code, text = session.data(f"Subject: {number}\r\n\r\nIt works.\r\n")
            note("message", f"{code} {text.decode()}")


def read() -> None:
    """Log in by IMAP and look into the mailbox; who waits for a last word may meet a reload of Dovecot."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    session = imaplib.IMAP4_SSL("localhost", ssl_context=context, timeout=WAIT_SECONDS)
    try:
        session.login("you@example.com", PASSWORD)
        note("login", session.select()[0])
    finally:
        session.shutdown()


def repeat(act, name, begin) -> None:  # type: ignore[no-untyped-def] # noqa: ANN001
    """Do it again and again; an error is an answer as well."""
    for number in itertools.count(1):
        if begin.exists():
            try:
                act(number) if act is send else act()
            except Exception as error:  # noqa: BLE001 (whatever a client meets is what this notes)
                note(name, f"{type(error).__name__}: {error}")
        time.sleep(PAUSE_SECONDS)


if __name__ == "__main__":
    threading.Thread(target=repeat, args=(read, "login", pathlib.Path("/root/reading"))).start()
    repeat(send, "smtp", pathlib.Path("/"))
