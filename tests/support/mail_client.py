"""A mail user's programs: submission with STARTTLS and a login, IMAP and POP3 over TLS."""

from __future__ import annotations

import imaplib
import poplib
import smtplib
import ssl
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from email.message import EmailMessage
from pathlib import Path

from support.process import program, wait_until

TIMEOUT = 60.0  # seconds


def make_certificate(directory: Path) -> tuple[Path, Path]:
    """Make a certificate for localhost and its key, and return their paths."""
    certificate, key = directory / "mail.pem", directory / "mail.key"
    command = [
        program("openssl", "openssl"),
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
    ]
    command += [
        "-days",
        "2",
        "-subj",
        "/CN=localhost",
        "-addext",
        "subjectAltName=DNS:localhost,IP:127.0.0.1",
    ]
    subprocess.run(
        [*command, "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True
    )
    return certificate, key


@dataclass(frozen=True)
class MailClient:
    """One user of the servers on 127.0.0.1; `ports` holds submission, imaps and pop3s."""

    ports: Mapping[str, int]
    certificate: Path
    user: str
    password: str

    @property
    def _tls(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.certificate))

    def submission(self) -> smtplib.SMTP:
        """Open a submission session, start TLS and log in.

        Raises smtplib.SMTPAuthenticationError when the login is refused.
        """
        session = smtplib.SMTP("localhost", self.ports["submission"], timeout=TIMEOUT)
        try:
            session.starttls(context=self._tls)
            session.login(self.user, self.password)
        except BaseException:
            session.close()
            raise
        return session

    def send(self, recipient: str, subject: str) -> None:
        """Submit a message. Raises smtplib.SMTPRecipientsRefused."""
        message = EmailMessage()
        message["From"], message["To"], message["Subject"] = self.user, recipient, subject
        message.set_content(f"For {recipient}.")
        with self.submission() as session:
            session.send_message(message)

    def imap(self) -> imaplib.IMAP4_SSL:
        """Log in over IMAP. Raises imaplib.IMAP4.error when the login is refused."""
        session = imaplib.IMAP4_SSL(
            "localhost", self.ports["imaps"], ssl_context=self._tls, timeout=TIMEOUT
        )
        try:
            session.login(self.user, self.password)
        except BaseException:
            session.shutdown()
            raise
        return session

    def imap_subjects(self) -> list[str]:
        """Return the subjects of the inbox, over IMAP."""
        with self.imap() as session:
            session.select("INBOX", readonly=True)
            numbers = session.search(None, "ALL")[1][0].split()
            fetched = [session.fetch(number.decode(), "(BODY[HEADER])")[1][0] for number in numbers]
            return [_subject(item[1]) for item in fetched if isinstance(item, tuple)]

    def pop3(self) -> poplib.POP3_SSL:
        """Log in over POP3. Raises poplib.error_proto when the login is refused."""
        session = poplib.POP3_SSL(
            "localhost", self.ports["pop3s"], context=self._tls, timeout=TIMEOUT
        )
        try:
            session.user(self.user)
            session.pass_(self.password)
        except BaseException:
            session.close()
            raise
        return session

    def pop3_subjects(self) -> list[str]:
        """Return the subjects of the inbox, over POP3."""
        session = self.pop3()
        try:
            count, _ = session.stat()
            return [
                _subject(b"\r\n".join(session.top(number, 0)[1])) for number in range(1, count + 1)
            ]
        finally:
            session.quit()

    def wait_for(self, subject: str) -> None:
        """Wait until a message of this subject is in the inbox."""
        wait_until(lambda: subject in self.imap_subjects(), f"no message {subject} for {self.user}")


def _subject(header: bytes) -> str:
    lines = header.decode().splitlines()
    return next(line.removeprefix("Subject: ") for line in lines if line.startswith("Subject: "))
