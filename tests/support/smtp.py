"""A bare SMTP session: one command, one reply, as the bytes say; nothing is quoted, folded or retried.

Addresses go to the server as they are given, so that a test can send what a mail library would mend
(`user name@example.com`).
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from types import TracebackType
from typing import Self


class SmtpSession:
    """One connection to an SMTP or LMTP server; replies are returned as text with the lines joined by newlines."""

    def __init__(self, connection: socket.socket, greeting: str = "EHLO client.test") -> None:
        self._connection = connection
        self._stream = connection.makefile("rb")
        try:
            self.banner = self.reply()
            self.extensions = self.command(greeting)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection without a QUIT."""
        self._stream.close()
        self._connection.close()

    def reply(self) -> str:
        """Read one reply, which may have several lines."""
        lines = []
        while True:
            line = self._stream.readline()
            if not line:
                raise EOFError("the SMTP server closed the connection")
            lines.append(line.decode(errors="backslashreplace").rstrip("\r\n"))
            if line[3:4] != b"-":
                return "\n".join(lines)

    def command(self, line: str | bytes) -> str:
        """Send one command and return its reply."""
        self._connection.sendall((line.encode() if isinstance(line, str) else line) + b"\r\n")
        return self.reply()

    def mail(self, sender: str, *, utf8: bool = False) -> str:
        """Name the sender; an empty one is the null sender. `utf8` announces addresses that are not ASCII."""
        options = " SMTPUTF8" if utf8 or not sender.isascii() else ""
        return self.command(f"MAIL FROM:<{sender}>{options}")

    def rcpt(self, recipient: str) -> str:
        """Name one recipient and return the server's verdict."""
        return self.command(f"RCPT TO:<{recipient}>")

    def reset(self) -> None:
        """Forget the sender and the recipients."""
        self.command("RSET")

    def data(self, text: str = "Subject: test\r\n\r\ntext\r\n") -> str:
        """Send the message's text and return the reply, which ends in the queue id when it was accepted."""
        answer = self.command("DATA")
        return (
            self.command(text.encode().removesuffix(b"\r\n") + b"\r\n.")
            if answer.startswith("354")
            else answer
        )

    def send(self, sender: str, recipients: Sequence[str], text: str) -> list[str]:
        """Send one message to all recipients that are accepted.

        Return the reply to each RCPT (or the refused sender's, once).
        """
        answer = self.mail(sender)
        if not answer.startswith("250"):
            return [answer]
        replies = [self.rcpt(recipient) for recipient in recipients]
        if any(reply.startswith("250") for reply in replies):
            accepted = self.data(text)
            if not accepted.startswith("250"):
                replies.append(accepted)
        else:
            self.reset()
        return replies
