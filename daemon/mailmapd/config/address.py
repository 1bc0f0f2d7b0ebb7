"""Addresses to listen on: ``unix:/path`` or ``host:port``."""

from __future__ import annotations

import ipaddress
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

KEEP_FILE: Mapping[str, Any] = {"cleanup_socket": False} if sys.version_info >= (3, 13) else {}
"""Keeps a server that ends from removing its socket file, as it does from Python 3.13 on: systemd's must stay."""


@dataclass(frozen=True, slots=True)
class UnixAddress:
    """A UNIX stream socket at an absolute path."""

    path: str

    def __str__(self) -> str:
        return f"unix:{self.path}"


@dataclass(frozen=True, slots=True)
class TcpAddress:
    """A TCP socket on a numeric IPv4 or IPv6 address."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def loopback(self) -> bool:
        """Return whether only this machine can reach the address."""
        return ipaddress.ip_address(self.host).is_loopback


Address = UnixAddress | TcpAddress

_UNIX_PATH_LIMIT = 107  # bytes; sun_path of unix(7) is 108 with its NUL


def parse_address(text: str) -> Address:
    """Return the address written as ``unix:/path``, ``127.0.0.1:2552``, ``[::1]:2552`` or ``localhost:2552``.

    Raises ValueError with what to write instead.
    """
    if text.startswith("unix:"):
        path = text.removeprefix("unix:")
        if not path.startswith("/"):
            raise ValueError(
                f'"{text}" needs an absolute path, such as "unix:/run/mailmapd/socketmap"'
            )
        if len(path.encode()) > _UNIX_PATH_LIMIT:
            raise ValueError(
                f'"{text}" is longer than the {_UNIX_PATH_LIMIT} bytes a UNIX socket path may have'
            )
        return UnixAddress(path)
    host, colon, port = text.removeprefix("inet:").rpartition(":")
    if text.startswith("/") or text.isdecimal():
        meant = f"unix:{text}" if text.startswith("/") else f"127.0.0.1:{text}"
        raise ValueError(f'"{text}" is not an address; write "{meant}"')
    if not colon or not port.isascii() or not port.isdigit():
        raise ValueError(f'"{text}" is not an address; write "unix:/path" or "127.0.0.1:port"')
    if not 0 <= int(port) <= 65535:
        raise ValueError(f'"{text}" has no valid port; write one from 1 to 65535')
    host = host.removeprefix("[").removesuffix("]")
    if host == "localhost":
        host = "127.0.0.1"
    try:
        return TcpAddress(str(ipaddress.ip_address(host)), int(port))
    except ValueError:
        raise ValueError(f'"{text}" needs a numeric address, such as "127.0.0.1:{port}"') from None
