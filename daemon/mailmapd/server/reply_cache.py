"""The reply cache: whole replies by the bytes of their requests, in front of the maps and dicts.

It saves decoding, search and encoding for the requests that come again and again. It never outlives its parts: a reply
is good only while every cached answer that it was made of is fresh, and it is dropped when one of them is touched. For
that, an index leads from each part to the replies made of it; a recall costs nothing for it.

Only what is asked twice within a while is remembered: most requests of a large host come once in a day, and remembering
one costs more than answering it. A doorkeeper knows the second time from the first.

What is remembered lives in two generations, each with its index. When the young one is full it becomes the old one, and
the one before it is dropped, a few replies at a time, because freeing a whole generation at once would keep everybody
waiting. A reply that is asked for again and again is made anew from its parts once in a generation, and nothing has to
move between them. A generation ends after a few minutes, too (`age`): while replies answer, the entries that they are
made of look unused, which decides what is evicted, audited, and fetched anew first.
"""

from __future__ import annotations

import gc
from array import array
from collections.abc import Callable, Iterable

from mailmapd.cache.memory import Share
from mailmapd.engine.answered import QUICK, Answered, Use
from mailmapd.engine.invalidation import Invalidation

GENERATION = 174_700  # replies per generation: a dictionary of 2**18 places does not grow for them
REQUEST_LIMIT = 512  # bytes of the longest request that is remembered
REPLY_LIMIT = 1024  # bytes of the longest reply that is remembered
DOORS = 524_288  # requests that were asked once and are known so, at most: 4 MiB; a power of two
_LAST_BITS = DOORS - 1
AROUND = 450  # bytes that a reply takes beside its request and itself: its places in dictionaries and the index
_MANY = 1000  # replies that are dropped at once: half a millisecond
_THINNED = 32  # of more than these, those that are dropped with each new reply
_UNSEEN = 500  # new replies after which the garbage collector is shown that it need not visit them
_FREED = 3  # entries of dropped dictionaries that are freed for each new reply, and one for each of its parts

Remembered = tuple[bytes, float, int]
"""A reply, until when it is good, and the number of its use: nothing that the garbage collector has to visit.

It finds that out when it looks at new objects. It does so when these are more and more; but here as many old ones go
as new ones come, and when it looked at last, it looked at a hundred thousand at one go.
"""

Recall = Callable[[bytes, float], Remembered | None]
CountRecalled = Callable[[Remembered, float], None]
Remember = Callable[[bytes, bytes, Answered], None]
"""`ReplyCache.find`, `ReplyCache.count` and `ReplyCache.remember`."""

_Index = dict[int, bytes | set[bytes]]
"""From the mark of a part to the request, or requests, whose replies were made of it."""


class _Thinned:
    """A generation without the replies that are `gone`, as long as these are not dropped from `replies`."""

    __slots__ = ("_gone", "replies")

    def __init__(self, replies: dict[bytes, Remembered], gone: list[set[bytes]]) -> None:
        self.replies = replies
        self._gone = gone

    def get(self, request: bytes, /) -> Remembered | None:
        for gone in self._gone:
            if request in gone:
                return None
        return self.replies.get(request)

    def pop(self, request: bytes, default: None, /) -> Remembered | None:
        return self.replies.pop(request, default)

    def __setitem__(self, request: bytes, reply: Remembered, /) -> None:
        self.replies[request] = reply

    def __contains__(self, request: object, /) -> bool:
        return request in self.replies

    def __len__(self) -> int:
        return len(self.replies)


_Replies = dict[bytes, Remembered] | _Thinned
"""A generation: replies by request."""


def _mark(table: str, sql_key: bytes) -> int:
    """Return a number for a part; two parts with the same number are only dropped together."""
    return hash(table) ^ hash(sql_key)


def nobody() -> array[int]:
    """Return the memory of a doorkeeper who has seen no request yet.

    It holds the hashes of those seen lately, each where its last bits say.
    """
    return array("q", bytes(8 * DOORS))


class ReplyCache:
    """Replies by request.

    With a doorkeeper's memory, `seen`, those are kept whose request is in there already. Their bytes count in
    `share`, which all caches divide evenly.
    """

    def __init__(
        self,
        generation: int = GENERATION,
        seen: array[int] | None = None,
        share: Share | None = None,
    ) -> None:
        self._seen = seen
        self._generation = generation
        self._share = share or Share()
        self._share.holders += 1
        self._young_bytes = self._old_bytes = 0
        self._young: _Replies = {}
        self._old: _Replies = {}
        self._gone: list[set[bytes]] = []
        self._young_index: _Index = {}
        self._old_index: _Index = {}
        self._dropped: list[dict[bytes, Remembered] | _Index] = []
        self._unseen = 0
        self._uses: list[Use] = []
        self._numbers: dict[Use, int] = {}

    def find(self, request: bytes, now: float) -> Remembered | None:
        """Return what is remembered for a request, if it is still good. Who uses it says so to `count` afterwards."""
        found = self._young.get(request) or self._old.get(request)
        return found if found is not None and now < found[1] else None

    def count(self, found: Remembered, seconds: float) -> None:
        """Count a lookup that `find` answered, which took `seconds`."""
        use = self._uses[found[2]]
        if seconds <= QUICK:  # as `Use.count` would: it is called once for each lookup
            use.lookups += 1
            use.seconds += seconds
        else:
            use.count(seconds)

    def remember(self, request: bytes, reply: bytes, answered: Answered) -> None:
        """Keep the reply that an answer became for the next time.

        Not if the request is asked for the first time, the answer may not be given again, or either is very long.
        """
        seen = self._seen
        if seen is not None:
            mark = hash(request)
            door = mark & _LAST_BITS
            if seen[door] != mark:
                seen[door] = mark
                return
        _, until, use, keys = answered
        if use is None or len(request) > REQUEST_LIMIT or len(reply) > REPLY_LIMIT:
            return
        number = self._numbers.get(use)
        if number is None:
            number = self._numbers[use] = len(self._uses)
            self._uses.append(use)
        if len(self._young) >= self._generation or self._young_bytes >= self._most():
            self.age()
        if request not in self._young:
            size = len(request) + len(reply) + AROUND
            self._young_bytes += size
            self._share.used += size
        self._young[request] = (reply, until, number)
        index = self._young_index
        for part, key in zip(use.parts, keys, strict=True):
            mark = _mark(part.table.name, key)
            known = index.get(mark)
            if known is None:
                index[mark] = request
            elif isinstance(known, set):
                known.add(request)
            elif known != request:
                index[mark] = {known, request}
        self._unseen += 1
        if self._dropped or self._gone or self._unseen >= _UNSEEN:
            self._tidy_up(request, _FREED + len(keys))

    def forget(self, invalidation: Invalidation) -> None:
        """Drop the replies that were made of what an invalidation touches; all of them where it names no keys."""
        if invalidation.keys is None:
            self.forget_all()
            return
        for key in invalidation.keys:
            mark = _mark(invalidation.table, key)
            for index in (self._young_index, self._old_index):
                found = index.pop(mark, None)
                if isinstance(found, bytes):
                    self._drop((found,))
                elif found is not None and len(found) <= _MANY:
                    self._drop(found)
                elif found is not None:
                    self._leave_out(found)

    def age(self) -> None:
        """Let the young generation be the old one, and drop the one before it."""
        self._drop_later(_all_of(self._old), self._old_index)
        self._share.used -= self._old_bytes
        self._old_bytes, self._young_bytes = self._young_bytes, 0
        self._old, self._old_index = self._young, self._young_index
        self._young, self._young_index = {}, {}
        if not isinstance(self._old, _Thinned):
            self._gone = []

    def forget_all(self) -> None:
        """Forget every reply."""
        self._share.used -= self._young_bytes + self._old_bytes
        self._young_bytes = self._old_bytes = 0
        self._drop_later(
            _all_of(self._young), _all_of(self._old), self._young_index, self._old_index
        )
        self._young, self._young_index = {}, {}
        self._old, self._old_index = {}, {}
        self._gone = []
        self._uses = []
        self._numbers = {}

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def _drop(self, requests: Iterable[bytes]) -> None:
        for request in requests:
            self._young.pop(request, None)
            self._old.pop(request, None)

    def _leave_out(self, requests: set[bytes]) -> None:
        """Drop very many replies: find none of them from now on, and drop them while new ones come.

        All replies about one domain may share a part, and to drop a hundred thousand takes a tenth of a second.
        """
        self._gone.append(requests)
        self._young, self._old = (
            replies if isinstance(replies, _Thinned) else _Thinned(_all_of(replies), self._gone)
            for replies in (self._young, self._old)
        )

    def _thin_out(self, request: bytes) -> None:
        """Drop some of what is left out; a request of it that is remembered anew is left out no more."""
        for gone in self._gone:
            gone.discard(request)
        last = self._gone[-1]
        self._drop([last.pop() for _ in range(min(_THINNED, len(last)))])
        if not last:
            self._gone.pop()
        if not self._gone:
            self._young, self._old = _all_of(self._young), _all_of(self._old)

    def _most(self) -> int:
        """Return how many bytes a generation may have: there are two, and one that is being freed."""
        return self._share.limit // (3 * self._share.holders)

    def _drop_later(self, *dropped: dict[bytes, Remembered] | _Index) -> None:
        self._dropped += [store for store in dropped if store]

    def _tidy_up(self, request: bytes, count: int) -> None:
        """Do a part of what is left to be done, now that a reply was remembered."""
        if self._unseen >= _UNSEEN:
            self._unseen = 0
            gc.collect(0)
        if self._gone:
            self._thin_out(request)
        if self._dropped:
            self._free_some(count)

    def _free_some(self, count: int) -> None:
        """Free some of what was dropped, more than a reply and its parts add: else it would gather without end."""
        last = self._dropped[-1]
        for _ in range(min(count, len(last))):
            last.popitem()
        if not last:
            self._dropped.pop()


def _all_of(replies: _Replies) -> dict[bytes, Remembered]:
    """Return a generation as it is kept."""
    return replies.replies if isinstance(replies, _Thinned) else replies


class ReplyCaches:
    """The reply caches of the process: one for each listener, of dicts one for each listener and dict."""

    def __init__(self, share: Share | None = None) -> None:
        self._share = share or Share()
        self._caches: dict[tuple[str, str], ReplyCache] = {}
        self._seen = nobody()

    def of(self, listener: str, name: str = "") -> ReplyCache:
        """Return the cache of a listener (and dict): always the same one, whatever is configured anew."""
        cache = self._caches.get((listener, name))
        if cache is None:
            cache = ReplyCache(seen=self._seen, share=self._share)
            self._caches[listener, name] = cache
        return cache

    def forget(self, invalidation: Invalidation) -> None:
        """Drop what an invalidation touches."""
        for cache in self._caches.values():
            cache.forget(invalidation)

    def age(self) -> None:
        """Have every reply that is asked for made anew from its parts, at the second time that this is called."""
        for cache in self._caches.values():
            cache.age()

    def forget_all(self) -> None:
        """Forget every reply, because other maps and dicts answer from now on."""
        for cache in self._caches.values():
            cache.forget_all()
