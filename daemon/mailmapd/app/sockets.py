"""Which sockets a configuration asks for, and opening them: all faults at once, systemd's own sockets taken where they fit."""

from __future__ import annotations

import socket
from collections.abc import Iterator, MutableMapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from mailmapd.config.address import Address, UnixAddress
from mailmapd.config.schema import Config, ListenAddress
from mailmapd.errors import ConfigError, Fault
from mailmapd.server.binding import bind_socket

CONTROL_MODE = 0o660


@dataclass(frozen=True)
class Wanted:
    """A socket that the configuration asks for; `name` is the listener's name, `where` its key in the file."""

    name: str
    where: str
    entry: ListenAddress


def wanted_sockets(config: Config) -> Iterator[Wanted]:
    """Yield every socket of `[listen]`."""
    listen = config.listen
    for name, entries in (("socketmap", listen.socketmap), ("dict", listen.dicts)):
        for index, entry in enumerate(entries):
            yield Wanted(name, f"listen.{name}[{index}]", entry)
    for name, entry in listen.tcp_table.items():
        yield Wanted(f"tcp_table.{name}", f"listen.tcp_table.{name}", entry)
    for name, one in (("http", listen.http), ("control", listen.control), ("lookup_http", listen.lookup_http)):
        if one is not None:
            yield Wanted(name, f"listen.{name}", one)


class SocketSet:
    """The sockets handed over by systemd, then our own. A handed-over socket's file is never removed by us."""

    def __init__(self, inherited: MutableMapping[Address, socket.socket]) -> None:
        self._inherited = inherited

    def inherited(self, address: Address) -> bool:
        """Return whether systemd owns the socket at this address."""
        return address in self._inherited

    def open(self, file: str, wanted: list[Wanted]) -> dict[Wanted, socket.socket]:
        """Return every wanted socket, bound; raise ConfigError, with nothing left open, when some cannot be had."""
        opened: dict[Wanted, socket.socket] = {}
        faults = []
        for one in wanted:
            inherited = self._inherited.get(one.entry.address)
            try:
                opened[one] = bind_socket(one.entry) if inherited is None else inherited.dup()
            except OSError as error:
                faults.append(Fault(file, one.where, error.strerror or str(error), _remedy(error, one.entry.address)))
        if faults:
            for bound in opened.values():
                bound.close()
            raise ConfigError(faults)
        return opened


def remove_socket_file(address: Address) -> None:
    """Remove what a closed UNIX socket leaves behind."""
    if isinstance(address, UnixAddress):
        with suppress(FileNotFoundError):
            Path(address.path).unlink()


def _remedy(error: OSError, address: Address) -> str:
    if isinstance(error, PermissionError):
        return "start the daemon as a user who may create it, or let systemd open it (mailmapd.socket)"
    if isinstance(error, FileNotFoundError) and isinstance(address, UnixAddress):
        return "create its folder first"
    return "stop the other process or choose another address"
