"""Asking a Dovecot's auth service what `doveadm user` and `doveadm auth lookup` ask it, for many users at once.

    VERSION 1 1                                    both sides, at the start
    LIST 1 service=doveadm user=*                  LIST 1 NAME …, DONE 1; or DONE 1 fail
    USER 2 NAME service=imap                       USER 2 NAME FIELD …, NOTFOUND 2, FAIL 2
    PASS 3 NAME service=imap                       PASS 3 user=NAME FIELD …, NOTFOUND 3, FAIL 3

Words are separated by TAB and tab-escaped. See "Auth Master Protocol" in Dovecot's documentation
for developers.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from mailmapd.errors import MailmapdError
from mailmapd.protocols.tab_escape import escape, split

_PATIENCE = 30.0  # seconds for which an answer is waited for
_AT_ONCE = 50  # questions under way at the same time
_LONGEST = 1000  # bytes of a question: Dovecot closes the connection on a line of 1024 and more

AuthAnswer = tuple[bytes, ...] | Literal["unknown", "failed"]
"""The fields of a user, in any order; there is none; it could not be told."""


class AuthMaster:
    """One connection to an auth-master socket. Raises MailmapdError when Dovecot does not answer."""

    def __init__(self, path: Path) -> None:
        self._name = str(path)
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(_PATIENCE)
        try:
            self._socket.connect(str(path))
            self._socket.sendall(b"VERSION\t1\t1\n")
        except OSError as error:
            self.close()
            raise self._gone(error) from error
        self._stream = self._socket.makefile("rb")

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def users(self) -> list[bytes]:
        """Return the names of all users."""
        found: list[bytes] = []
        for words in self._ask([b"LIST\t1\tservice=doveadm\tuser=*\n"]):
            if words[0] == b"FAIL" or (words[0] == b"DONE" and b"fail" in words[2:]):
                break
            if words[0] == b"DONE":
                return found
            found.append(words[2])
        raise MailmapdError(f"{self._name}: Dovecot cannot list its users")

    def lookups(self, kind: Literal["USER", "PASS"], users: Sequence[bytes]) -> list[AuthAnswer]:
        """Return what a userdb (USER) or passdb (PASS) says of each user.

        "failed" of a user whose name is too long to be asked for in this way, which `doveadm` cannot do either.
        """
        answers: list[AuthAnswer] = []
        for start in range(0, len(users), _AT_ONCE):
            batch = users[start : start + _AT_ONCE]
            questions = [
                b"%b\t%d\t%b\tservice=imap\n" % (kind.encode(), number, escape(user))
                for number, user in enumerate(batch, 1)
            ]
            found: dict[int, AuthAnswer] = {
                number: "failed"
                for number, question in enumerate(questions, 1)
                if len(question) > _LONGEST
            }
            if len(found) < len(batch):
                asked = [question for question in questions if len(question) <= _LONGEST]
                for words in self._ask(asked):
                    found[int(words[1])] = _answer(words)
                    if len(found) == len(batch):
                        break
            answers += [found[number] for number in range(1, len(batch) + 1)]
        return answers

    def _ask(self, questions: Sequence[bytes]) -> Iterator[list[bytes]]:
        """Send questions and yield the lines that answer, without those that greet."""
        try:
            self._socket.sendall(b"".join(questions))
            for line in self._stream:
                words = split(line.rstrip(b"\n"))
                if words[0] not in (b"VERSION", b"SPID"):
                    yield words
        except OSError as error:
            raise self._gone(error) from error
        raise self._gone("it has closed the connection")

    def _gone(self, reason: object) -> MailmapdError:
        return MailmapdError(f"{self._name}: Dovecot does not answer: {reason}")


def _answer(words: list[bytes]) -> AuthAnswer:
    if words[0] == b"NOTFOUND":
        return "unknown"
    return "failed" if words[0] == b"FAIL" else tuple(sorted(words[2:]))
