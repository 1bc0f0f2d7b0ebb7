"""The doors: which sockets of `[listen]` could be had, and what becomes of a listener without one.

A start goes on without a socket that cannot be had, as long as there is one for lookups: what is
wrong with Dovecot's is no reason to take Postfix's away. It is tried again now and then. A reload
that asks for a new socket which cannot be had is refused, and everybody stays served as before.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Collection, Iterable, Mapping

from mailmapd.config.address import Address
from mailmapd.config.schema import Config
from mailmapd.errors import ConfigError, Fault
from mailmapd.sockets.opening import Opening, SocketSet, Wanted, wanted_sockets

log = logging.getLogger(__name__)


class Doors:
    """The sockets of a daemon, by what the configuration wants."""

    def __init__(self, sockets: SocketSet) -> None:
        self._sockets = sockets
        self._closed: dict[Wanted, Fault] = {}

    def open(
        self, config: Config, served: Collection[Wanted], *, at_start: bool
    ) -> dict[Wanted, socket.socket]:
        """Return the sockets that a configuration wants and that are not served yet.

        Raises ConfigError, and nothing has changed then.
        """
        wanted = list(wanted_sockets(config))
        if all(place.optional for place in wanted):
            # Perhaps an editor's empty file, that a reload must not take for a wish to serve nobody
            fault = Fault(
                config.file,
                "listen",
                "names no address, so nobody could ask",
                'write socketmap = ["unix:/path"] below [listen]',
            )
            raise ConfigError([fault])
        opening = self._sockets.open(
            config.file,
            [place for place in wanted if place not in served],
            has_token=config.listen.webhook_token_file is not None,
        )
        refusals = self._refusals(wanted, opening, at_start=at_start)
        if refusals:
            self._sockets.give_back(opening)
            raise ConfigError(refusals)
        self._note(opening.faults)
        return opening.sockets

    def open_late(self, config: Config) -> dict[Wanted, socket.socket]:
        """Return the sockets that could not be had before and can be now."""
        if not self._closed:
            return {}
        has_token = config.listen.webhook_token_file is not None
        opening = self._sockets.open(config.file, self._closed, has_token=has_token)
        for place in opening.sockets:
            log.info("listener %s is open now", place.name)
        self._note(opening.faults)
        return opening.sockets

    def release(self, addresses: Iterable[Address]) -> None:
        """Turn away who comes to these addresses from now on."""
        for address in addresses:
            self._sockets.release(address)

    def hindrances(self) -> list[str]:
        """Return a line for each listener that is not open."""
        return [
            f"listener {place.name} is not open: {fault}" for place, fault in self._closed.items()
        ]

    def strays(self, config: Config) -> list[str]:
        """Return a line for each socket of systemd's that nobody serves."""
        return [
            f"systemd holds {address} open, which [listen] does not name: who connects waits in vain"
            for address in self._sockets.strays(config)
        ]

    def _refusals(self, wanted: list[Wanted], opening: Opening, *, at_start: bool) -> list[Fault]:
        """Return the faults that keep the configuration from being served."""
        faults = {place: fault for place, fault in opening.faults.items() if not place.optional}
        if not at_start:
            return [fault for place, fault in faults.items() if place not in self._closed]
        needed = [place for place in wanted if place.for_lookups] or wanted
        return [] if any(place in opening.sockets for place in needed) else list(faults.values())

    def _note(self, faults: Mapping[Wanted, Fault]) -> None:
        """Remember which sockets could not be had, and say so once."""
        for place, fault in faults.items():
            if place.optional:
                log.info("flush, stats and top cannot reach the daemon: %s", fault.problem)
            elif place not in self._closed:
                log.error("listener %s is not open, the others are: %s", place.name, fault)
        self._closed = {place: fault for place, fault in faults.items() if not place.optional}
