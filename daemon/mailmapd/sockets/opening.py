"""Opening the sockets that a configuration asks for.

Systemd's own sockets are taken where they fit; every other one is bound here. One that cannot be
had keeps nobody from having the others.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from mailmapd.config.address import Address, UnixAddress
from mailmapd.config.references import OTHERS
from mailmapd.config.schema import DEFAULT_CONTROL, Config, ListenAddress
from mailmapd.errors import Fault
from mailmapd.sockets.binding import (
    ACCOUNT_REMEDY,
    NoSocket,
    UnknownAccount,
    bind_socket,
    set_access,
)
from mailmapd.sockets.units import socket_unit

_GIVE_HASHES = ("dict", "lookup_http")


@dataclass(frozen=True)
class Wanted:
    """A socket that the configuration asks for.

    `name` is the listener's name, `where` its key in the file (it may move there). `optional` says
    that nobody has asked for it: it is there by default, where it can be.
    """

    name: str
    where: str = field(compare=False)
    entry: ListenAddress
    optional: bool = field(default=False, compare=False)

    @property
    def for_lookups(self) -> bool:
        """Return whether it is a socket of Postfix's or Dovecot's."""
        return self.name not in ("http", "control", "webhook")


def wanted_sockets(config: Config) -> Iterator[Wanted]:
    """Yield every socket of `[listen]`."""
    listen = config.listen
    for name, entries in (("socketmap", listen.socketmap), ("dict", listen.dicts)):
        for index, entry in enumerate(entries):
            yield Wanted(name, f"listen.{name}[{index}]", entry)
    for name, entry in listen.tcp_table.items():
        yield Wanted(f"tcp_table.{name}", f"listen.tcp_table.{name}", entry)
    for name, single in (
        ("http", listen.http),
        ("control", listen.control),
        ("lookup_http", listen.lookup_http),
        ("webhook", listen.webhook),
    ):
        if single is not None:
            yield Wanted(name, f"listen.{name}", single, optional=single is DEFAULT_CONTROL)


@dataclass(frozen=True)
class Opening:
    """The sockets that could be had, and why others could not.

    `fresh` are the addresses that were not bound before.
    """

    sockets: dict[Wanted, socket.socket]
    faults: dict[Wanted, Fault]
    fresh: set[Address]


class SocketSet:
    """Every socket that clients can connect to, by address: those handed over by systemd, then our own.

    Listeners get duplicates, so that a reload can give an address to another listener without ever
    turning a client away.
    """

    def __init__(self, inherited: Mapping[Address, socket.socket]) -> None:
        self._inherited = inherited
        self._own: dict[Address, socket.socket] = {}

    def open(self, file: str, wanted: Iterable[Wanted], *, has_token: bool = False) -> Opening:
        """Bind every wanted socket that can be had. `has_token` says that a webhook asks for one."""
        before = set(self._own)
        opening = Opening({}, {}, set())
        for place in wanted:
            what = _of_no_others(place.name, has_token=has_token)
            if what and place.entry.address in self._inherited and lets_others_in(place.entry):
                opening.faults[place] = Fault(
                    file,
                    place.where,
                    f"systemd's socket file lets every account of this machine {what}",
                    f"write SocketMode=0660 with systemctl edit {socket_unit(place.name)}, or name the peers here",
                )
                continue
            try:
                opening.sockets[place] = self._take(place.entry).dup()
            except OSError as error:
                problem = error.strerror or str(error)
                remedy = _remedy(error, place)
                opening.faults[place] = Fault(file, place.where, problem, remedy)
        opening.fresh.update(set(self._own) - before)
        return opening

    def give_back(self, opening: Opening) -> None:
        """Undo what `open` did, before anybody is served."""
        for bound in opening.sockets.values():
            bound.close()
        for address in opening.fresh:
            self.release(address)

    def strays(self, config: Config) -> list[Address]:
        """Return the addresses of systemd's sockets that the configuration does not name."""
        named = {place.entry.address for place in wanted_sockets(config)}
        return [address for address in self._inherited if address not in named]

    def release(self, address: Address) -> None:
        """Turn away who comes to this address from now on. A socket of systemd's stays open, and so does its file."""
        own = self._own.pop(address, None)
        if own is None:
            return
        own.close()
        if isinstance(address, UnixAddress):
            # One that cannot be removed is in nobody's way: the next start takes its place
            with suppress(OSError):
                Path(address.path).unlink()

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


def lets_others_in(entry: ListenAddress) -> bool:
    """Return whether a bound socket lets in who is neither its owner, nor in its group, nor one of its peers."""
    if entry.peers:
        return False
    if not isinstance(entry.address, UnixAddress):
        return True
    with suppress(OSError):  # a file that is gone lets nobody in
        return bool(Path(entry.address.path).stat().st_mode & OTHERS)
    return False


def _of_no_others(listener: str, *, has_token: bool) -> str:
    """Return what accounts could do that a listener lets in by mistake, or an empty text where all may come."""
    if listener in _GIVE_HASHES:
        return "ask for password hashes"
    return "have everything forgotten" if listener == "webhook" and not has_token else ""


def _remedy(error: OSError, wanted: Wanted) -> str:
    address = wanted.entry.address
    if isinstance(error, UnknownAccount):
        return ACCOUNT_REMEDY
    if isinstance(error, NoSocket):
        return "move that file away, or choose another address"
    if isinstance(error, PermissionError) or error.errno == errno.EOPNOTSUPP:
        unit = socket_unit(wanted.name)
        return (
            "start the daemon as a user who may open it, or let systemd do it: "
            f"systemctl enable {unit}, then systemctl restart mailmapd.service"
        )
    if error.errno == errno.EROFS and isinstance(address, UnixAddress):
        folder = Path(address.path).parent
        return (
            "choose an address below /run/mailmapd, or write [Service] and "
            f"ReadWritePaths={folder} with systemctl edit mailmapd.service, and restart it"
        )
    if isinstance(error, FileNotFoundError) and isinstance(address, UnixAddress):
        return "create its folder first: systemd-tmpfiles --create, or mkdir"
    if error.errno == errno.EADDRNOTAVAIL:
        return "choose an address that this host has"
    return "stop the other process or choose another address"
