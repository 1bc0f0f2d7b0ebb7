"""Which sockets a configuration asks for, and opening them.

All faults at once, systemd's own sockets taken where they fit.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from mailmapd.config.address import Address, UnixAddress
from mailmapd.config.references import OTHERS
from mailmapd.config.schema import Config, ListenAddress
from mailmapd.errors import ConfigError, Fault
from mailmapd.sockets.binding import bind_socket, set_access

_GIVE_HASHES = ("dict", "lookup_http")


@dataclass(frozen=True)
class Wanted:
    """A socket that the configuration asks for.

    `name` is the listener's name, `where` its key in the file (it may move there).
    """

    name: str
    where: str = field(compare=False)
    entry: ListenAddress


def wanted_sockets(config: Config) -> Iterator[Wanted]:
    """Yield every socket of `[listen]`."""
    listen = config.listen
    for name, entries in (("socketmap", listen.socketmap), ("dict", listen.dicts)):
        for index, entry in enumerate(entries):
            yield Wanted(name, f"listen.{name}[{index}]", entry)
    for name, entry in listen.tcp_table.items():
        yield Wanted(f"tcp_table.{name}", f"listen.tcp_table.{name}", entry)
    for name, one in (
        ("http", listen.http),
        ("control", listen.control),
        ("lookup_http", listen.lookup_http),
    ):
        if one is not None:
            yield Wanted(name, f"listen.{name}", one)


class SocketSet:
    """Every socket that clients can connect to, by address: those handed over by systemd, then our own.

    Listeners get duplicates, so that a reload can give an address to another listener without ever
    turning a client away.
    """

    def __init__(self, inherited: Mapping[Address, socket.socket]) -> None:
        self._inherited = inherited
        self._own: dict[Address, socket.socket] = {}

    def open(self, file: str, wanted: Iterable[Wanted]) -> dict[Wanted, socket.socket]:
        """Return every wanted socket, bound.

        Raise ConfigError, with nothing more open than before, when some cannot be had.
        """
        opened: dict[Wanted, socket.socket] = {}
        before = set(self._own)
        faults = []
        for one in wanted:
            if one.name in _GIVE_HASHES and self._lets_others_in(one.entry):
                faults.append(
                    Fault(
                        file,
                        one.where,
                        "systemd's socket file lets every account of this machine ask for password hashes",
                        "write SocketMode=0660 in its .socket unit, or name the peers here",
                    )
                )
                continue
            try:
                opened[one] = self._take(one.entry).dup()
            except OSError as error:
                faults.append(
                    Fault(
                        file,
                        one.where,
                        error.strerror or str(error),
                        _remedy(error, one.entry.address),
                    )
                )
        if faults:
            for bound in opened.values():
                bound.close()
            for address in set(self._own) - before:
                self.release(address)
            raise ConfigError(faults)
        return opened

    def release(self, address: Address) -> None:
        """Turn away who comes to this address from now on. A socket of systemd's stays open, and so does its file."""
        own = self._own.pop(address, None)
        if own is None:
            return
        own.close()
        if isinstance(address, UnixAddress):
            with suppress(
                OSError
            ):  # one that cannot be removed is in nobody's way: the next start takes its place
                Path(address.path).unlink()

    def _lets_others_in(self, entry: ListenAddress) -> bool:
        """Return whether a socket of systemd's has a mode that lets in who is neither owner nor in its group."""
        if entry.address not in self._inherited or entry.peers:
            return False
        if not isinstance(entry.address, UnixAddress):
            return True
        with suppress(OSError):  # a file that is gone lets nobody in
            return bool(Path(entry.address.path).stat().st_mode & OTHERS)
        return False

    def _take(self, entry: ListenAddress) -> socket.socket:
        address = entry.address
        inherited = self._inherited.get(address)
        if inherited is not None:
            return inherited
        if address not in self._own:
            self._own[address] = bind_socket(entry)
        elif isinstance(address, UnixAddress):
            set_access(address.path, entry)
        return self._own[address]


def _remedy(error: OSError, address: Address) -> str:
    if isinstance(error, PermissionError):
        return (
            "start the daemon as a user who may create it, or let systemd open it (mailmapd.socket)"
        )
    if isinstance(error, FileNotFoundError) and isinstance(address, UnixAddress):
        return "create its folder first"
    return "stop the other process or choose another address"
