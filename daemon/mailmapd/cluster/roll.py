"""The roll: who belongs to the fleet, as far as the records say that this host has seen.

A host whose record is still there a day after its last word is not expected any more. Words are told by a change of the
record, not by its time: a clock that is days off leaves nobody out. Only of records that have not changed since this
host began does their time say how old they are.

Records that the server has lost, as an empty restart does, are those of hosts all the same: until each has written
another one, it is not known what it has read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from mailmapd.cluster.members import GONE, Member, gone
from mailmapd.cluster.message import Codec

MOST_HOSTS = 1024  # that are waited for although their records are lost
_SETTLED = 10.0  # seconds after which a record that has not changed is one that nobody writes


@dataclass(slots=True)
class _Seen:
    """A record, when it was seen first, and whether there was another one of that host before."""

    member: Member
    since: float
    changed: bool = False


class Roll:
    """The hosts whose records were seen; `own` is the name of this one."""

    def __init__(self, own: str, codec: Codec, clock: Callable[[], float]) -> None:
        self._own = own
        self._codec = codec
        self._clock = clock
        self._seen: dict[str, _Seen] = {}
        self._lost: set[str] = set()

    def take(
        self, found: Mapping[str, Member], *, written: bool
    ) -> tuple[dict[str, Member], list[str]]:
        """Return every host that is expected, by name, and those that are not any more, from all that were `found`.

        With `written` this host has written its own: without that, the server has lost what was there.
        """
        now = self._clock()
        if written and self._own not in found:
            self.lost()
        self._lost -= found.keys()
        for name, member in found.items():
            before = self._seen.get(name)
            if before is None or before.member != member:
                self._seen[name] = _Seen(member, now, changed=before is not None)
        given_up = self._given_up(found, now)
        self._lost -= set(given_up)
        expected = {*found, *self._lost} - set(given_up)
        self._seen = {name: self._seen[name] for name in sorted(expected)}
        return {name: seen.member for name, seen in self._seen.items()}, given_up

    def lost(self) -> None:
        """Note that the server has lost every record.

        Of those that are waited for then there are no more than a fleet has hosts: whoever may write there could make
        up others again and again, whose records nobody writes a second time.
        """
        hosts = [
            (not seen.changed, name)
            for name, seen in self._seen.items()
            if not seen.member.left and name != self._own and name not in self._lost
        ]
        self._lost.update([name for _, name in sorted(hosts)[: MOST_HOSTS - len(self._lost)]])

    def has_done(self, name: str, member: Member, identity: str, history: str) -> bool:
        """Return whether a host has carried out a message, which it can only if it has the key of who said it."""
        return member.has(identity, history) and self.has_our_key(name, member)

    def has_our_key(self, name: str, member: Member) -> bool:
        """Return whether a host has written its record with the key of this one, or neither has any."""
        return member.is_signed(name, self._codec)

    def _given_up(self, found: Mapping[str, Member], now: float) -> list[str]:
        """Return the hosts that are not expected any more."""
        old = gone(
            {name: member for name, member in found.items() if self.has_our_key(name, member)}
        )
        return [
            name
            for name, seen in self._seen.items()
            if now - seen.since > (_SETTLED if name in old and not seen.changed else GONE)
        ]
