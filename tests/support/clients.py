"""Reference clients of the lookup protocols, on plain sockets and without any of the daemon's code.

socketmap_table(5): ``<length>:<map> SP <key>,`` is answered by ``<length>:OK SP <value>,`` (or
NOTFOUND, TEMP, TIMEOUT, PERM). tcp_table(5): ``get SP <%XX-encoded key> LF`` is answered by
``200``, ``400`` or ``500``, a blank and encoded text.
"""

from __future__ import annotations

import socket
from types import TracebackType
from typing import NamedTuple, Self
from urllib.parse import quote_from_bytes, unquote_to_bytes

TIMEOUT_SECONDS = 60.0


def connect(address: str) -> socket.socket:
    """Connect to ``unix:/path`` or ``host:port``."""
    kind = socket.AF_UNIX if address.startswith("unix:") else socket.AF_INET
    connection = socket.socket(kind, socket.SOCK_STREAM)
    connection.settimeout(TIMEOUT_SECONDS)
    try:
        if kind == socket.AF_UNIX:
            connection.connect(address.removeprefix("unix:"))
        else:
            host, _, port = address.rpartition(":")
            connection.connect((host, int(port)))
    except OSError:
        connection.close()
        raise
    return connection


class Reply(NamedTuple):
    """A server's word (``OK``, ``NOTFOUND``, ``TEMP``, … or ``200``, ``400``, ``500``) and the
    value or reason behind it.
    """

    status: str
    value: bytes


class Client:
    """One connection, with a buffered reader."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.stream = connection.makefile("rb")

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
        """Close the connection."""
        self.stream.close()
        self.connection.close()

    def send(self, data: bytes) -> None:
        """Send raw bytes."""
        self.connection.sendall(data)

    def at_end(self) -> bool:
        """Wait until the server closes the connection or says something; true when it closed."""
        try:
            return self.stream.read(1) == b""
        except ConnectionResetError:
            return True


class SocketmapClient(Client):
    """A socketmap_table(5) client."""

    @staticmethod
    def request(name: str, key: bytes) -> bytes:
        """Return the bytes of one request."""
        payload = name.encode() + b" " + key
        return b"%d:%s," % (len(payload), payload)

    def receive(self) -> Reply:
        """Read one reply."""
        length = b""
        while (char := self.stream.read(1)) != b":":
            if not char.isdigit():
                raise EOFError(f"a netstring's length was expected, not {length + char!r}")
            length += char
        payload = self.stream.read(int(length))
        if self.stream.read(1) != b",":
            raise EOFError("a netstring ends in a comma")
        status, _, value = payload.partition(b" ")
        return Reply(status.decode(), value)

    def ask(self, name: str, key: bytes) -> Reply:
        """Ask one key of a map."""
        self.send(self.request(name, key))
        return self.receive()

    def lookup(self, name: str, key: bytes) -> bytes | None:
        """Return the value of a key or None when it is not found; fail on every other reply."""
        status, value = self.ask(name, key)
        assert status in ("OK", "NOTFOUND"), f"{status} {value!r} for {key!r} of {name}"
        return value if status == "OK" else None


class TcpTableClient(Client):
    """A tcp_table(5) client."""

    @staticmethod
    def request(key: bytes) -> bytes:
        """Return the bytes of one request."""
        return b"get " + quote_from_bytes(key, safe="@.-_+=!#$&*/").encode() + b"\n"

    def receive(self) -> Reply:
        """Read one reply."""
        line = self.stream.readline()
        if not line.endswith(b"\n"):
            raise EOFError(f"a reply ends in a line feed: {line!r}")
        status, _, value = line[:-1].partition(b" ")
        return Reply(status.decode(), unquote_to_bytes(value))

    def ask(self, key: bytes) -> Reply:
        """Ask one key."""
        self.send(self.request(key))
        return self.receive()
