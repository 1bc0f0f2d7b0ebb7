"""Global identifiers of transactions, as MySQL and MariaDB write them.

MySQL     uuid:1-5:7,uuid:1      a set: for each server that has begun transactions their numbers
MariaDB   0-1-100,5-2-7          a state: for each domain the last transaction, which stands for all before it

Both grow with what a server says: what is longer than any server's own is refused.
"""

from __future__ import annotations

import struct
import uuid
from bisect import bisect_right

from mailmapd.errors import DatabaseError

MOST_SPANS = 4096
"""Intervals of a set, of all servers together. One server has one for each gap in its numbers: a handful."""

MOST_DOMAINS = 4096
"""Domains of a state; MariaDB has one for each stream of transactions that are independent of each other."""

_LAST_NUMBER = (1 << 63) - 1  # of a transaction


class GtidError(DatabaseError):
    """A name of transactions that a server gave and that is not understood; the text says which part."""


class GtidSet:
    """A set of MySQL's global identifiers. Raises GtidError, also for those with tags (MySQL 8.3 and newer)."""

    def __init__(self, text: str = "") -> None:
        # For each server its spans, in order, apart from each other: the first number and the one behind the last
        self._spans: dict[str, list[tuple[int, int]]] = {}
        self._count = 0  # of all spans
        if text.count(",") + text.count(":") > 2 * MOST_SPANS:
            raise _too_many(MOST_SPANS, "gaps in its numbers")
        for part in text.replace("\n", "").split(","):
            if not part.strip():
                continue
            name, *intervals = part.strip().split(":")
            try:
                server = str(uuid.UUID(name))
                for interval in intervals:
                    first, _, last = interval.partition("-")
                    numbers = int(first), int(last or first)
                    if not 0 < numbers[0] <= numbers[1] <= _LAST_NUMBER:
                        raise ValueError
                    self._add(server, numbers[0], numbers[1] + 1)
            except ValueError:
                raise GtidError(
                    f"gtid_executed has a part that is not understood: {part:.100}"
                ) from None

    def __str__(self) -> str:
        return ",".join(
            ":".join([server, *[_interval(first, end) for first, end in spans]])
            for server, spans in sorted(self._spans.items())
        )

    def __contains__(self, gtid: str) -> bool:
        server, number = _one(gtid)
        return self._has(server, number, number + 1)

    def __le__(self, other: GtidSet) -> bool:
        return all(
            other._has(server, first, end)
            for server, spans in self._spans.items()
            for first, end in spans
        )

    def add(self, gtid: str) -> None:
        """Add one transaction."""
        server, number = _one(gtid)
        self._add(server, number, number + 1)

    def without(self, gtid: str) -> GtidSet:
        """Return the set without one transaction."""
        server, number = _one(gtid)
        other = GtidSet()
        for name, spans in self._spans.items():
            for first, end in spans:
                if name == server and first <= number < end:
                    pieces = [(first, number), (number + 1, end)]
                else:
                    pieces = [(first, end)]
                for piece in pieces:
                    if piece[0] < piece[1]:
                        other._spans.setdefault(name, []).append(piece)
        other._count = sum(map(len, other._spans.values()))
        return other

    def last(self, server: str) -> str:
        """Return the last transaction that a server has begun, or of another one where it has begun none."""
        known = self._spans.get(server)
        if known is None:
            if not self._spans:
                return ""
            server, known = next(iter(self._spans.items()))
        return f"{server}:{known[-1][1] - 1}"

    def encode(self) -> bytes:
        """Return the binary form: for each server its UUID and half-open intervals."""
        packed = [struct.pack("<Q", len(self._spans))]
        for server, spans in self._spans.items():
            packed.append(uuid.UUID(server).bytes + struct.pack("<Q", len(spans)))
            packed += [struct.pack("<QQ", first, end) for first, end in spans]
        return b"".join(packed)

    def _has(self, server: str, first: int, end: int) -> bool:
        spans = self._spans.get(server, [])
        at = bisect_right(spans, (first, _LAST_NUMBER + 2)) - 1
        return at >= 0 and end <= spans[at][1]

    def _add(self, server: str, first: int, end: int) -> None:
        spans = self._spans.setdefault(server, [])
        if spans and spans[-1][0] <= first <= spans[-1][1]:  # nearly always: the next one
            spans[-1] = spans[-1][0], max(end, spans[-1][1])
            return
        at = bisect_right(spans, (first, _LAST_NUMBER + 2))
        if at and first <= spans[at - 1][1]:
            at -= 1
            first = spans[at][0]
        until = at
        while until < len(spans) and spans[until][0] <= end:
            end = max(end, spans[until][1])
            until += 1
        self._count += 1 - (until - at)
        if self._count > MOST_SPANS:
            raise _too_many(MOST_SPANS, "gaps in its numbers")
        spans[at:until] = [(first, end)]


def _interval(first: int, end: int) -> str:
    return str(first) if end == first + 1 else f"{first}-{end - 1}"


def _one(gtid: str) -> tuple[str, int]:
    """Return the server and the number of one identifier. Raises GtidError."""
    name, _, number = gtid.partition(":")
    try:
        return str(uuid.UUID(name)), int(number)
    except ValueError:
        raise GtidError(f"no identifier of a transaction: {gtid!a:.100}") from None


def _too_many(most: int, what: str) -> GtidError:
    return GtidError(f"the server names transactions with more than {most} {what}")


class GtidState:
    """A state of MariaDB's global identifiers: the last transaction of each domain. Raises GtidError."""

    def __init__(self, text: str = "") -> None:
        self._last: dict[int, tuple[int, str]] = {}
        if text.count(",") >= 2 * MOST_DOMAINS:
            raise _too_many(MOST_DOMAINS, "domains")
        for gtid in text.replace("\n", "").split(","):
            if gtid.strip():
                self.add(gtid.strip())

    def __str__(self) -> str:
        return ",".join(gtid for _, (_, gtid) in sorted(self._last.items()))

    def __le__(self, other: GtidState) -> bool:
        return all(
            number <= other._last.get(domain, (0, ""))[0]
            for domain, (number, _) in self._last.items()
        )

    def add(self, gtid: str) -> None:
        """Add the last transaction of a domain."""
        try:
            domain, _, number = map(int, gtid.split("-"))
        except ValueError:
            raise GtidError(f"no identifier of a transaction: {gtid!a:.100}") from None
        if domain not in self._last and len(self._last) >= MOST_DOMAINS:
            raise _too_many(MOST_DOMAINS, "domains")
        self._last[domain] = number, gtid
