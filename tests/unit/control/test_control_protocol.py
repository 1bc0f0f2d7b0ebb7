from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailmapd.control.protocol import (
    ERROR_WORDS,
    RequestError,
    decode_request,
    encode_error,
    encode_reply,
    encode_request,
)
from mailmapd.engine.flush import FlushRequest
from mailmapd.engine.orders import FlushOrder, decode_flush


@pytest.mark.parametrize(
    ("members", "request_"),
    [
        ({"do": "stats"}, "stats"),
        ({"do": "flush", "all": True}, FlushRequest(everything=True)),
        ({"do": "flush", "key": "k", "table": "t"}, FlushRequest(key=b"k", table="t")),
        ({"do": "flush", "key": "k", "map": "m"}, FlushRequest(key=b"k", map="m")),
        (
            {"do": "flush", "user": "jörg@example.com"},
            FlushRequest(user="jörg@example.com".encode()),
        ),
        ({"do": "flush", "domain": "example.com"}, FlushRequest(domain=b"example.com")),
    ],
)
def test_requests(members: dict[str, object], request_: object) -> None:
    """Each request is read as it was meant."""
    decoded = decode_request(encode_request(members))
    assert (decoded.request if isinstance(decoded, FlushOrder) else decoded) == request_


@given(st.binary(min_size=1))
def test_any_key(key: bytes) -> None:
    """A key of any bytes arrives as it was sent, on one line of ASCII."""
    line = encode_request({"do": "flush", "key": key.decode("utf-8", "surrogateescape")})
    assert line.isascii()
    assert line.count(b"\n") == 1
    decoded = decode_request(line)
    assert isinstance(decoded, FlushOrder)
    assert decoded.request == FlushRequest(key=key)
    assert decode_flush(dict(decoded.members)) == decoded.request


@pytest.mark.parametrize(
    ("line", "word"),
    [
        (b"\n", "malformed"),
        (b"flush\n", "malformed"),
        (b"[]\n", "malformed"),
        (b"\xff\n", "malformed"),
        (b"[" * 60_000 + b"\n", "malformed"),
        (b'{"do": ' + b"9" * 10_000 + b"}\n", "malformed"),
        (b"{}\n", "bad_request"),
        (b'{"do": "stop"}\n', "bad_request"),
        (b'{"do": ["flush"]}\n', "bad_request"),
        (b'{"do": "stats", "all": true}\n', "bad_request"),
        (b'{"do": "flush"}\n', "bad_request"),
        (b'{"do": "flush", "all": 1}\n', "bad_request"),
        (b'{"do": "flush", "key": 1}\n', "bad_request"),
        (b'{"do": "flush", "kye": "k"}\n', "bad_request"),
        (b'{"do": "flush", "key": "\\ud800"}\n', "bad_request"),
        (b'{"do": "flush", "user": "nobody"}\n', "bad_request"),
        (b'{"do": "flush", "all": true, "table": "t"}\n', "bad_request"),
    ],
)
def test_refused(line: bytes, word: str) -> None:
    """Everything else is refused with a word of the protocol and a text."""
    with pytest.raises(RequestError) as refusal:
        decode_request(line)
    assert refusal.value.word == word
    reply = json.loads(encode_error(refusal.value))
    assert reply["ok"] is False
    assert reply["error"] in ERROR_WORDS
    assert reply["message"]


@given(
    st.binary()
    | st.recursive(
        st.none() | st.booleans() | st.text(), lambda inner: st.dictionaries(st.text(), inner)
    ).map(json.dumps)
)
def test_garbage(line: bytes | str) -> None:
    """Any line is a request or a refusal, and nothing else comes of it."""
    with contextlib.suppress(RequestError):
        decode_request(line if isinstance(line, bytes) else line.encode())


def test_reply() -> None:
    """A reply is one line that says ok."""
    line = encode_reply({"dropped": {"alias": 3}})
    assert json.loads(line) == {"ok": True, "dropped": {"alias": 3}}
    assert line.endswith(b"\n")
