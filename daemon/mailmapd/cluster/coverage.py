"""Coverage: whose word about changes holds, and for how long.

A follower's heartbeat says: of these servers every change has been told that I had heard of `age` seconds before this
message. It names the last message that it had read, and so was made after that one was there: the word holds until the
moment of that message, less those seconds. No clock of another machine is believed, and a heartbeat that comes late, or
twice, proves nothing new. It counts only when the stream is proven to be without a gap until it. Where one host has
found that changes of a table are not logged, nobody's word holds for that table.

    since     when a follower was first heard to vouch for a table, in this epoch
    began     a message after which it has told every change of these tables, as it says itself
    proven    until when its word holds
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from mailmapd.cluster.message import Hears
from mailmapd.cluster.reader import order

PATIENCE = 6.0
"""Seconds without a new proof after which nothing is proven any more: two to three are usual."""

BEFORE = float("-inf")
"""Since when a follower has vouched that did so already when memory was written down, and has not stopped since."""

_FORGOTTEN = 60.0  # seconds after which a follower that is silent is not kept in mind
MOST_SOURCES = 512
"""Words that are kept in mind; a fleet of fifty hosts, all of which follow five databases, has half as many."""


@dataclass(slots=True)
class Source:
    """One follower's word about one database."""

    epoch: int
    servers: frozenset[str]
    heard: float
    since: dict[str, float] = field(default_factory=dict)
    proven: float = float("-inf")
    began: tuple[int, int] | None = None
    claimed: float = float("-inf")  # until when its word will hold once the stream is proven
    unlogged: frozenset[str] = frozenset()  # tables whose changes its server does not log
    tells_second: bool = False  # whether the second level is told what it tells
    follows: bool = False  # whether it vouches for anything, be it what nobody asks here

    def vouches(self, servers: frozenset[str], table: str, now: float) -> bool:
        """Return whether its word holds now for a table that is read from these servers."""
        return table in self.since and self.servers >= servers and now - self.proven <= PATIENCE


Name = tuple[str, str, str]
"""A source: the follower's host and run, and the name of its database."""


@dataclass(frozen=True, slots=True)
class Vouched:
    """A follower's word that held when memory was written down: in which epoch, and for what."""

    name: Name
    epoch: int
    servers: frozenset[str]
    tables: frozenset[str]


class Coverage:
    """The sources that are heard of, with the tables of their words that are `known` here, or all without that.

    `own` says which tables this host itself has found to change without the log saying so.
    """

    def __init__(
        self,
        known: Collection[str] | None = None,
        own: Callable[[], frozenset[str]] = frozenset,
    ) -> None:
        self.sources: dict[Name, Source] = {}
        self._known = known
        self._own = own

    def heard(
        self,
        host: str,
        run: str,
        hears: Mapping[str, Hears],
        moment: float | None,
        now: float,
        *,
        tells_second: bool = False,
    ) -> None:
        """Take a heartbeat; `moment` is that of the message that its sender had seen, None if that is too long ago."""
        for name in [name for name in self.sources if name[:2] == (host, run)]:
            if name[2] not in hears:
                self.sources[name].since.clear()
                self.sources[name].follows = False
        for database, heard in hears.items():
            name = (host, run, database)
            source = self.sources.get(name)
            if source is None and len(self.sources) >= MOST_SOURCES:
                continue  # made up by a stranger, as many of the others
            if source is None or source.epoch != heard.epoch or source.servers != heard.servers:
                if source is not None:
                    source.since.clear()
                source = self.sources[name] = Source(heard.epoch, heard.servers, now)
            source.heard = now
            source.began = order(heard.since) if heard.since else None
            source.follows = bool(heard.tables)
            source.unlogged = heard.unlogged
            source.tells_second = tells_second
            tables = heard.tables if self._known is None else heard.tables.intersection(self._known)
            source.since = {table: source.since.get(table, now) for table in tables}
            if moment is not None:
                source.claimed = max(source.claimed, moment - heard.age)
        for name, source in list(self.sources.items()):
            if now - source.heard > _FORGOTTEN:
                del self.sources[name]
        self.leave_out()

    def unlogged(self) -> frozenset[str]:
        """Return the tables that change without a log saying so, as any host has found."""
        return self._own().union(*[source.unlogged for source in self.sources.values()])

    def leave_out(self) -> None:
        """Let no word hold for tables that change without a log saying so."""
        for table in self.unlogged():
            for source in self.sources.values():
                source.since.pop(table, None)

    def expect(self, sources: Iterable[Vouched], now: float) -> None:
        """Begin with words that held where the stream is read from; they hold again when they are heard."""
        for vouched in sources:
            since = dict.fromkeys(vouched.tables, BEFORE)
            source = Source(vouched.epoch, vouched.servers, now, since, follows=bool(since))
            self.sources[vouched.name] = source

    def prove(self) -> None:
        """Let the words hold that were heard until now: nothing was missed between them."""
        for source in self.sources.values():
            source.proven = max(source.proven, source.claimed)

    def forget(self) -> None:
        """Believe nobody any more: something was missed."""
        for source in self.sources.values():
            source.since.clear()
        self.sources.clear()

    def followers(self, now: float) -> set[str]:
        """Return the hosts whose word holds now for anything, be it what nobody asks here."""
        return {
            name[0]
            for name, source in self.sources.items()
            if source.follows and now - source.proven <= PATIENCE
        }

    def vouching(self, servers: frozenset[str], table: str, now: float) -> Iterator[Source]:
        """Yield the sources whose word holds now, the one that has held for longest first."""
        found = [source for source in self.sources.values() if source.vouches(servers, table, now)]
        yield from sorted(found, key=lambda source: source.since[table])

    def reaching_back(
        self, servers: frozenset[str], table: str, identity: tuple[int, int], now: float
    ) -> Iterator[Source]:
        """Yield the sources whose word holds now for all that was changed since a message, if the second level is told.

        Another one's changes are not taken back there when no host reads of them that shares answers.
        """
        for source in self.vouching(servers, table, now):
            if source.tells_second and source.began is not None and source.began <= identity:
                yield source
