"""Dovecot's auth service, asked as fast as it answers.

Logins by the auth-client protocol, user lookups by the auth-master protocol.
"""

from __future__ import annotations

import asyncio
import base64
import os
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Rate:
    """The outcome of one measurement."""

    per_second: float
    found: int
    missing: int


class AuthClient:
    """One connection to one of Dovecot's auth sockets; `kind` is ``passdb`` or ``userdb``, `seed` chooses the users."""

    def __init__(
        self, kind: str, socket: Path, users: Sequence[str], password: str, seed: int
    ) -> None:
        self._kind = kind
        self._socket = socket
        self._users = users
        self._password = password
        self._chooser = random.Random(seed)

    async def measure(self, requests: int, in_flight: int) -> Rate:
        """Ask for `requests` users, chosen at random, with at most `in_flight` at a time."""
        reader, writer = await asyncio.open_unix_connection(str(self._socket))
        writer.write(
            b"VERSION\t1\t2\nCPID\t%d\n" % os.getpid()
            if self._kind == "passdb"
            else b"VERSION\t1\t1\n"
        )
        greeting_end = b"DONE" if self._kind == "passdb" else b"SPID"
        while not (await reader.readline()).startswith(greeting_end):
            pass
        started = time.perf_counter()
        sent = found = missing = 0
        while found + missing < requests:
            while sent < requests and sent - found - missing < in_flight:
                sent += 1
                writer.write(self._question(sent))
            line = await reader.readline()
            if not line:
                raise EOFError("the auth service closed the connection")
            if line.startswith((b"OK\t", b"USER\t")):
                found += 1
            elif line.startswith((b"FAIL\t", b"NOTFOUND\t")):
                missing += 1
        seconds = time.perf_counter() - started
        writer.close()
        return Rate(requests / seconds, found, missing)

    def _question(self, number: int) -> bytes:
        user = self._chooser.choice(self._users).encode()
        if self._kind == "userdb":
            return b"USER\t%d\t%b\tservice=imap\n" % (number, user)
        response = base64.b64encode(b"\0%b\0%b" % (user, self._password.encode()))
        return b"AUTH\t%d\tPLAIN\tservice=imap\tsecured\tresp=%b\n" % (number, response)
