"""Host names as mysql_table(5) writes them.

unix:/run/mysqld/mysqld.sock    a UNIX socket (a port behind it is of no meaning)
localhost                       the client library's own UNIX socket (or what the option file says)
inet:db.example.net:3307        TCP; `inet:` and the port may be missing, the port may be a service name
[2001:db8::7]:3306              TCP over IPv6
"""

from __future__ import annotations

import ipaddress
import re
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

CLIENT_SOCKET = "/run/mysqld/mysqld.sock"
"""The socket where Debian's client library looks for `localhost`."""

DEFAULT_PORT = 3306


@dataclass(frozen=True, slots=True)
class HostAddress:
    """The address of one server: `path` for a UNIX socket, else `name` and `port`.

    `label` is the text of the configuration; it names the host in logs and metrics. Both `path` and
    `name` are empty for ``localhost``, which an option file may direct elsewhere.
    """

    label: str
    path: str = ""
    name: str = ""
    port: int = DEFAULT_PORT

    @property
    def says_port(self) -> bool:
        """Tell whether the configuration names the port; where it does not, an option file may."""
        return bool(_split_port(self.label.removeprefix("inet:"))[1])

    @property
    def is_local(self) -> bool:
        """Tell whether this is a UNIX socket."""
        return not self.name

    @property
    def may_move(self) -> bool:
        """Tell whether this is a name, which may lead to another server tomorrow, and no IP address."""
        try:
            ipaddress.ip_address(self.name)
        except ValueError:
            return bool(self.name)
        return False


def parse_host(text: str) -> HostAddress:
    """Return the address that a host text means; raise ValueError with what to write instead."""
    if text.startswith("unix:"):
        # mysql_table(5) cuts a port off every host, and a socket has none
        path = re.sub(r":[0-9]+$", "", text.removeprefix("unix:"))
        if not path.startswith("/"):
            raise ValueError(
                f"{text}: a UNIX socket needs its full path, as in unix:{CLIENT_SOCKET}"
            )
        return HostAddress(text, path=path)
    if text.startswith("/"):
        raise ValueError(f"{text}: write unix:{text}")
    name, port = _split_port(text.removeprefix("inet:"))
    if name.lower() == "localhost":
        return HostAddress(text)
    if not re.fullmatch(r"[0-9A-Za-z._:%-]+", name):
        raise ValueError(
            f"{text}: not a host name; write host, host:port, [IPv6 address]:port or unix:/path"
        )
    return HostAddress(text, name=name, port=_port_number(text, port))


def parse_hosts(texts: Sequence[str]) -> list[HostAddress]:
    """Return the addresses of a host list, each once; none at all means ``localhost``."""
    return [parse_host(text) for text in dict.fromkeys(texts or ("localhost",))]


def _split_port(text: str) -> tuple[str, str]:
    if found := re.fullmatch(r"\[([^\]]*)\](?::(.*))?", text):
        return found[1], found[2] or ""
    if text.count(":") > 1:
        return text, ""
    name, _, port = text.partition(":")
    return name, port


def _port_number(text: str, port: str) -> int:
    if not port:
        return DEFAULT_PORT
    if not port.isdecimal():
        try:
            return socket.getservbyname(port, "tcp")
        except OSError:
            raise ValueError(
                f"{text}: no TCP service is named {port}; write the port's number"
            ) from None
    if not 0 < int(port) < 65536:
        raise ValueError(f"{text}: a port is a number from 1 to 65535")
    return int(port)
