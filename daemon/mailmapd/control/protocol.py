"""The control protocol: one JSON object per line in both directions, over a UNIX stream socket.

    → {"do": "flush", "user": "user@example.com"}   or key, domain, table, map, or all (true)
    ← {"ok": true, "dropped": {"alias": 3, "auth.passdb": 1}}
    → {"do": "flush", "user": "user@example.com", "wait": 2.0}   wait 2 s for the other hosts of a fleet
    ← {"ok": true, "dropped": {…}, "unconfirmed": ["mx7"], "failure": ""}   or why nobody was told
    → {"do": "look", "table": "alias", "sql_key": "info@example.com"}
    ← {"ok": true, "held": {"age": "fresh", "row": true, "fresh_for": 211.7, "known_for": 58.3,   never the value itself
                                   "followed": false, "reason": "the account may not read the log"}}
    → {"do": "reload"}
    ← {"ok": true, "faults": []}                         why it was refused, if it was
    → {"do": "stats"}
    ← {"ok": true, "stats": {…}}                         see mailmapd.stats.snapshot
    → {"do": "cluster"}
    ← {"ok": true, "members": {"mx1": {…}}}              see mailmapd.stats.snapshot
    ← {"ok": false, "error": "unknown_name", "message": "there is no table …; the tables are: alias"}

A client may ask any number of times; replies come in the order of requests. Lines are ASCII: bytes
of keys that are not UTF-8 travel as JSON's escapes of lone surrogates (U+DC80 to U+DCFF), which is
what Python's `surrogateescape` makes of them.

A line that is longer than `LINE_LIMIT` is answered with ``too_long``, and the connection ends;
other errors leave it open. The words of `error` are those of `ErrorWord`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal, cast, get_args

from mailmapd.engine.look import LookRequest
from mailmapd.engine.orders import FlushOrder, OrderError, decode_order

# Bytes of a request; the longest key of socketmap_table(5), 10 000 bytes, is 60 000 when every byte
# is escaped
LINE_LIMIT = 64 * 1024
REPLY_LIMIT = 64 * 1024 * 1024  # bytes of a reply that a client reads at most

ErrorWord = Literal[
    "no_permission",
    "malformed",
    "too_long",
    "bad_request",
    "unknown_name",
    "busy",
    "unavailable",
    "failed",
]
ERROR_WORDS: tuple[str, ...] = get_args(ErrorWord)

Request = FlushOrder | LookRequest | Literal["stats", "reload", "cluster"]


class RequestError(Exception):
    """A request that cannot be served; `word` and the text go back to the client."""

    def __init__(self, word: ErrorWord, text: str) -> None:
        super().__init__(text)
        self.word: ErrorWord = word


def decode_request(line: bytes) -> Request:
    """Return what one line asks. Raises RequestError."""
    try:
        members = json.loads(line)
    except (ValueError, RecursionError):
        raise RequestError("malformed", "a request is one JSON object on a line") from None
    if not isinstance(members, dict):
        raise RequestError("malformed", "a request is one JSON object on a line")
    do = members.pop("do", None)
    if do in ("stats", "reload", "cluster"):
        if members:
            raise RequestError("bad_request", f"{do} takes nothing else")
        return cast("Literal['stats', 'reload', 'cluster']", do)
    if do == "flush":
        try:
            return decode_order(members)
        except OrderError as error:
            raise RequestError("bad_request", str(error)) from None
    if do == "look":
        return _look_request(members)
    raise RequestError(
        "bad_request", '"do" must be "flush", "look", "reload", "stats" or "cluster"'
    )


def _look_request(members: dict[str, Any]) -> LookRequest:
    table, sql_key = members.get("table"), members.get("sql_key")
    if (
        not isinstance(table, str)
        or not isinstance(sql_key, str)
        or len(members) > len(("table", "sql_key"))
    ):
        raise RequestError("bad_request", "look takes the texts table and sql_key")
    try:
        return LookRequest(table, sql_key.encode("utf-8", "surrogateescape"))
    except UnicodeEncodeError:
        raise RequestError("bad_request", "a text holds half of a surrogate pair") from None


def encode_request(members: Mapping[str, object]) -> bytes:
    """Return the line of a request."""
    return json.dumps(members).encode() + b"\n"


def encode_reply(members: Mapping[str, object]) -> bytes:
    """Return the line of a reply to a request that was served."""
    return json.dumps({"ok": True, **members}).encode() + b"\n"


def encode_error(error: RequestError) -> bytes:
    """Return the line of a refusal."""
    return json.dumps({"ok": False, "error": error.word, "message": str(error)}).encode() + b"\n"
