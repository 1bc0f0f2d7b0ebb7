"""Replay what real Dovecot processes said, from tests/data/dovecot_dict."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from mailmapd.model import (
    NOT_FOUND,
    Answer,
    DictCommit,
    DictIterate,
    DictLookup,
    DictQuery,
    Found,
    TempFail,
)
from mailmapd.protocols import DictCodec
from support.codecs import Outcome, byte_by_byte, feed

CONVERSATIONS = Path(__file__).parents[2] / "data" / "dovecot_dict"

Step = dict[str, Any]


def conversations() -> list[Any]:
    return [
        pytest.param(conversation["steps"], id=f"{path.stem}: {conversation['name']}")
        for path in sorted(CONVERSATIONS.glob("*.toml"))
        for conversation in tomllib.loads(path.read_text(encoding="utf-8"))["conversation"]
    ]


def client_line(step: Step) -> bytes:
    line: str = step["client"]
    return line.encode() + b"\n"


def query_of(step: Step) -> DictQuery:
    kind, name, *rest = step["query"]
    match kind:
        case "lookup":
            key, user = rest
            return DictLookup(name, key.encode(), user.encode())
        case "iterate":
            prefix, mask, limit, no_value = rest
            return DictIterate(name, prefix.encode(), mask.encode(), limit, no_value)
        case "commit":
            transaction, wants_reply = rest
            return DictCommit(name, transaction, wants_reply)
        case _:
            pytest.fail(f"no such query: {kind}")


def answer_of(step: Step) -> Answer:
    if "found" in step:
        return Found(step["found"].encode())
    return TempFail(step["failure"]) if "failure" in step else NOT_FOUND


@pytest.mark.parametrize("steps", conversations())
def test_queries(steps: list[Step]) -> None:
    """The client's lines become the queries they mean: all in one segment, line by line, and byte by byte."""
    lines = [client_line(step) for step in steps]
    expected = Outcome([query_of(step) for step in steps if "query" in step], None)
    data = b"".join(lines)
    assert feed(DictCodec(), [data]) == expected
    assert feed(DictCodec(), lines) == expected
    assert feed(DictCodec(), byte_by_byte(data)) == expected


@pytest.mark.parametrize("steps", conversations())
def test_replies(steps: list[Step]) -> None:
    """Our answers become the bytes that the client was seen to accept."""
    codec = DictCodec()
    for step in steps:
        codec.receive_data(client_line(step))
        query = codec.next_query()
        if query is None:
            assert "server" not in step
            continue
        rows = b""
        if isinstance(query, DictIterate):
            rows = codec.encode_rows(
                query, [(key.encode(), value.encode()) for key, value in step["rows"]]
            )
        assert rows + codec.encode(query, answer_of(step)) == step["server"].encode()
