"""Codecs, as a connection sees them.

A connection stores what it reads with `receive_data` and then asks `next_query` until that returns None:

    codec.receive_data(data)
    while (query := codec.next_query()) is not None:
        …answer it, in order: transport.write(codec.encode(answer))

How the bytes were cut into pieces never matters, and several queries may come in one piece. Bytes
outside the protocol raise `ProtocolError` and nothing else; its `reason` is one of the fixed words
in the codec module's `REASONS`. Queries that were complete before the fault are handed out first.
From the error on the codec refuses its input: whatever is received is dropped, and every
`next_query` raises the same error again, so the connection can only be closed.

Limits are checked in `next_query`. When it returns None, a codec holds one unfinished query at
most, within its protocol's limit; what `receive_data` brings after that is held as it comes. A
connection that stops asking, because an earlier answer is still awaited, must therefore stop
reading, too; `buffered` tells it how much is waiting.
"""

from __future__ import annotations

from typing import Final, Protocol, TypeVar

from mailmapd.model import Answer, MapQuery, Query

KEY_LIMIT: Final = 10_000
"""The longest key of a Postfix lookup, in bytes, after decoding.

Postfix itself sends no key near it (line_length_limit is 2 048).
"""

QueryT_co = TypeVar("QueryT_co", bound=Query, covariant=True)


class Codec(Protocol[QueryT_co]):
    """The receiving half of a protocol, for one connection."""

    @property
    def buffered(self) -> int:
        """Return the bytes received but not yet handed out as queries."""
        ...

    def receive_data(self, data: bytes, /) -> None:
        """Store bytes as they came from the socket; never raises."""
        ...

    def next_query(self) -> QueryT_co | None:
        """Return the next complete query, or None when more bytes are needed.

        Raise `ProtocolError` for bytes outside the protocol.
        """
        ...


class MapCodec(Codec[MapQuery], Protocol):
    """A protocol of Postfix: one answer for each query, in order."""

    def whole_query(self, data: bytes, /) -> MapQuery | None:
        """Return the query that `data` holds, if it is a usual one, whole and nothing else; None says nothing.

        It is what `receive_data` and `next_query` would give while nothing is buffered, in a
        fraction of their time; nothing is stored.
        """
        ...

    def encode(self, answer: Answer) -> bytes:
        """Return the reply to the oldest unanswered query; never raises."""
        ...
