"""This host's own addresses, which Postfix takes for local domains when they stand in brackets.

With ``inet_interfaces = all`` mail for ``user@[192.0.2.2]`` is local on the host with that address.
Addresses come and go, so they are read whenever a configuration is compiled: at the start and at
every reload, as Postfix's own programs read them when they start. The kernel tells them in two
files, which need neither a netlink socket nor a right:

    /proc/self/net/fib_trie     |-- 192.0.2.2
                                   /32 host LOCAL
    /proc/self/net/if_inet6     20010db8000000000000000000000002 02 40 00 80 eth0
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Iterable, Iterator
from pathlib import Path

_IPV4 = Path("/proc/self/net/fib_trie")
_IPV6 = Path("/proc/self/net/if_inet6")
_LOCAL = re.compile(r"\|-- ([0-9.]+)\s+/32 host LOCAL")


def own_literals(words: Iterable[str]) -> list[str]:
    """Return the literals, such as ``[192.0.2.2]`` and ``[ipv6:2001:db8::2]``, that the words stand for, each once.

    The words are ``ipv4``, ``ipv6``, ``all`` (of every interface), and addresses or host names, as in
    inet_interfaces and proxy_interfaces. Raises ValueError for a name that does not resolve.
    """
    found: dict[str, None] = {}
    for word in words:
        found.update(dict.fromkeys(_literal(address) for address in _addresses(word)))
    return list(found)


def _addresses(word: str) -> Iterator[str]:
    if word in ("all", "ipv4"):
        yield from _LOCAL.findall(_text(_IPV4))
    if word in ("all", "ipv6"):
        yield from (line.split()[0] for line in _text(_IPV6).splitlines())
    if word in ("all", "ipv4", "ipv6"):
        return
    try:
        found = socket.getaddrinfo(word.strip("[]"), None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise ValueError(f"{word!r} is no address and no host name that resolves") from error
    yield from (str(address[0]) for *_, address in found)


def _literal(address: str) -> str:
    parsed = (
        ipaddress.ip_address(bytes.fromhex(address))
        if re.fullmatch(r"[0-9a-f]{32}", address)
        else ipaddress.ip_address(address.partition("%")[0])
    )
    return f"[ipv6:{parsed}]" if parsed.version == 6 else f"[{parsed}]"


def _text(path: Path) -> str:
    """Return a file of the kernel; a host without IPv6 has no if_inet6."""
    return path.read_text() if path.exists() else ""
