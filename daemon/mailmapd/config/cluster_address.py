"""The addresses of the server of `[cluster]` and of its Sentinels.

unix:/run/valkey/valkey.sock        redis://user@host:6379/0        rediss://host        host:26379 of a Sentinel
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from mailmapd.config.address import parse_address

_SCHEMES = {"redis": False, "rediss": True}
_PORT = 6379
_DATABASE = re.compile(r"/?|/(\d{1,5})", re.ASCII)
_HOST_PORT = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^\s:\[\]@/]+):(?P<port>\d{1,5})", re.ASCII)


@dataclass(frozen=True, slots=True)
class ClusterAddress:
    """A UNIX socket at `path`, or a TCP server: `database` is its number there, `user` the account, if it is named."""

    path: str = ""
    host: str = ""
    port: int = _PORT
    database: int = 0
    user: str = ""
    encrypted: bool = False


def parse_cluster_url(text: str) -> ClusterAddress:
    """Return the address. Raises ValueError with what is wrong, and never shows a password."""
    if text.startswith("unix:"):
        return ClusterAddress(path=str(parse_address(text)).removeprefix("unix:"))
    scheme, separator, _ = text.partition("://")
    if not separator or scheme not in _SCHEMES or not text.isprintable():
        raise ValueError("is no address of a Valkey or Redis server")
    try:
        url = urlsplit(text)
        host, port = url.hostname or "", url.port
    except ValueError as error:
        raise ValueError(f"is no address of a Valkey or Redis server: {error}") from None
    if url.password is not None:
        raise ValueError("holds a password, which everybody may see")
    if not host or " " in host:
        raise ValueError("names no host")
    if port == 0:
        raise ValueError("has no valid port: one from 1 to 65535")
    database = _DATABASE.fullmatch(url.path)
    if database is None or "?" in text or "#" in text:
        raise ValueError("has something else than the number of a database behind the host")
    return ClusterAddress(
        host=host,
        port=port or _PORT,
        database=int(database[1] or 0),
        user=unquote(url.username or ""),
        encrypted=_SCHEMES[scheme],
    )


def parse_host_port(text: str) -> tuple[str, int]:
    """Return the host and the port of a Sentinel. Raises ValueError."""
    found = _HOST_PORT.fullmatch(text)
    if found is None or not 0 < int(found["port"]) <= 65535:
        raise ValueError(f'"{text}" is no host with a port')
    return found["host"].strip("[]"), int(found["port"])
