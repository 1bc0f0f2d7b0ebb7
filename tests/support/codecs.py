"""Feed codecs: the same bytes, cut in any way, must mean the same."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

from mailmapd.errors import ProtocolError
from mailmapd.model import Query
from mailmapd.protocols import Codec


class Outcome(NamedTuple):
    """The queries that came out of a codec, and the reason of its refusal, if it refused."""

    queries: list[Query]
    refusal: str | None


def feed(codec: Codec[Query], pieces: Iterable[bytes]) -> Outcome:
    """Give a codec one piece after the other, as a connection does, and collect what comes out."""
    queries: list[Query] = []
    for piece in pieces:
        codec.receive_data(piece)
        try:
            while (query := codec.next_query()) is not None:
                queries.append(query)
        except ProtocolError as error:
            return Outcome(queries, error.reason)
    return Outcome(queries, None)


def byte_by_byte(data: bytes) -> list[bytes]:
    """Cut into pieces of one byte."""
    return [data[position : position + 1] for position in range(len(data))]


def cut(data: bytes, positions: Iterable[int]) -> Sequence[bytes]:
    """Cut at positions, which may come in any order, repeat and lie outside."""
    inside = sorted({min(max(position, 0), len(data)) for position in positions})
    edges = [0, *inside, len(data)]
    return [data[start:end] for start, end in pairwise(edges)]


def outcome_of_any_cut(
    make: Callable[[], Codec[Query]], data: bytes, reasons: Sequence[str]
) -> Outcome:
    """Return what the bytes mean to a new codec.

    Fail when a cut changes it or the reason of a refusal is not listed.
    """
    outcome = feed(make(), [data])
    assert outcome.refusal is None or outcome.refusal in reasons
    width = 1 + sum(data[:3]) % 7
    assert (
        feed(make(), [data[start : start + width] for start in range(0, len(data), width)])
        == outcome
    )
    return outcome
