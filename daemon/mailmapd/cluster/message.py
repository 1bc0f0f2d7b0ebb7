"""Messages of the stream, as bytes: pure, versioned, and in terms that every host expands with its own configuration.

A message is one JSON object in the field ``m`` of an entry, ASCII; bytes that are not UTF-8 travel as JSON's escapes of
lone surrogates. With a key, the field ``s`` holds a keyed BLAKE2b of ``m``: who lacks the key is a stranger.

    {"v": 1, "host": "mx1", "run": "9f3c…",      who says it, and in which run of the daemon
     "seen": "1790000000000-0",                  the last message that it had read: this one was made after that
     "forget": {TABLE: {"keys": [KEY, …], "parts": [[[NAME, VALUE], …], …], "all": true}},
     "flush": {"user": "info@example.com"},      as of the control protocol: key, user, domain, table, map, all
     "hears": {"mail": {"epoch": 3, "age": 0.2, "since": "1790000000000-0",
                        "servers": [SERVER, …], "tables": [TABLE, …],
                        "unlogged": [TABLE, …]}},                  where there are any
     "history": "5a…",                            of the server to which all of that was told
     "second": "5d0c…"}                          the second level is told, too, by a host with these tables

TABLE is the digest of a table's name, its query and the logical database that it asks, but not of which server: hosts
whose queries differ never mean each other's tables. KEY is a SQL key. ``hears`` is a heartbeat: of
these servers every change has been told that was heard of `age` seconds ago, for these tables, without a break since
the epoch began, but for `unlogged` ones, which an audit has found to change without the log saying so; `since` is a
message that was made after it had, once there is one. It counts at the server with that history, and at no other one
that a connection of its sender may have reached.

A message may have any of the last four members, and members that are not known are an error: whoever does not
understand all of a message must take it for more than it says.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mailmapd.changes.touched import SomeParts, Touched

VERSION = 1
MOST_KEYS = (
    500  # keys and parts of one message, of which a long one counts as many: 20 KiB in practice
)
MOST_BYTES = 256 * 1024  # of a message that is read
_LONG_KEY = 64  # bytes; 500 such keys, each byte of which needs the six of an escape, are 190 KiB
_SIGNATURE = 16  # bytes
_ID_DIGITS = 20  # of each part of an id, which has 64 bits
_LONGEST_NAME = 255  # characters of a host, a run, a server, a table or a database
_MOST_DATABASES, _MOST_SERVERS, _MOST_TABLES = 64, 256, 4096  # of a heartbeat
_MOST_NAMES = 8192  # of a heartbeat, over all of its databases
_MOST_PARTS = 32  # of one key
_LONGEST_AGE = 1e9  # seconds

FIELD = b"m"
SIGNATURE_FIELD = b"s"

OVERLONG = b"\0overlong"
"""Stands for a value that was too long to be read. Who wrote it is not known either, so it may have meant anything."""


class NotUnderstood(Exception):
    """A message that says nothing this version knows."""


class Stranger(Exception):
    """A message that nobody signed who has the key."""


@dataclass(frozen=True, slots=True)
class Hears:
    """A host's word on how it hears one database's changes: see the module."""

    epoch: int
    age: float
    servers: frozenset[str]
    tables: frozenset[str]
    since: str = ""
    unlogged: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Message:
    """A message of one host to all others."""

    host: str
    run: str
    seen: str = "0-0"
    forget: Touched | None = None
    flush: Mapping[str, Any] | None = None
    hears: Mapping[str, Hears] | None = None
    second: str = ""
    history: str = ""


@dataclass(frozen=True, slots=True)
class Codec:
    """Writes and reads entries, signed with `key` if there is one."""

    key: bytes = field(default=b"", repr=False)

    def encode(self, message: Message) -> dict[bytes, bytes]:
        """Return the fields of an entry."""
        members: dict[str, Any] = {
            "v": VERSION,
            "host": message.host,
            "run": message.run,
            "seen": message.seen,
        }
        if message.forget is not None:
            members["forget"] = _encode_touched(message.forget)
        if message.flush is not None:
            members["flush"] = dict(message.flush)
        if message.hears is not None:
            members["hears"] = {
                name: {
                    "epoch": heard.epoch,
                    "age": round(heard.age, 3),
                    "since": heard.since,
                    "servers": sorted(heard.servers),
                    "tables": sorted(heard.tables),
                    **({"unlogged": sorted(heard.unlogged)} if heard.unlogged else {}),
                }
                for name, heard in message.hears.items()
            }
        if message.history:
            members["history"] = message.history
        if message.second:
            members["second"] = message.second
        text = json.dumps(members, separators=(",", ":")).encode()
        return {FIELD: text, SIGNATURE_FIELD: self._sign(text)} if self.key else {FIELD: text}

    def decode(self, fields: Mapping[bytes, bytes]) -> Message:
        """Return what an entry says. Raises NotUnderstood, and Stranger for one without the right signature."""
        text = fields.get(FIELD, b"")
        signature = fields.get(SIGNATURE_FIELD, b"")
        if OVERLONG in (text, signature):
            raise NotUnderstood("it is too long")
        if self.key and not hmac.compare_digest(signature, self._sign(text)):
            raise Stranger
        try:
            members = json.loads(text)
        except (ValueError, RecursionError):
            raise NotUnderstood("it is no JSON") from None
        if not isinstance(members, dict) or members.pop("v", None) != VERSION:
            raise NotUnderstood("it is of another version")
        try:
            return _decode(members)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise NotUnderstood(f"it is malformed: {error!r:.100}") from None

    def sign_record(self, text: bytes) -> str:
        """Return the signature of a host's record, or nothing without a key."""
        return self._sign(text, b"mailmapd hosts").decode() if self.key else ""

    def _sign(self, text: bytes, purpose: bytes = b"mailmapd stream") -> bytes:
        key = hashlib.blake2b(self.key).digest()
        signature = hashlib.blake2b(text, key=key, digest_size=_SIGNATURE, person=purpose)
        return signature.hexdigest().encode()


def split(touched: Touched) -> list[Touched]:
    """Return the same in pieces that are small enough for a message each."""
    pieces = [Touched(whole=set(touched.whole))]
    room = MOST_KEYS
    for kind in ("keys", "parts"):
        for table, values in getattr(touched, kind).items():
            for value in values:
                taken = 1 + _size(value) // _LONG_KEY
                if taken > room:
                    pieces.append(Touched())
                    room = MOST_KEYS
                getattr(pieces[-1], kind).setdefault(table, set()).add(value)
                room -= taken
    return [piece for piece in pieces if piece]


def _size(value: bytes | SomeParts) -> int:
    """Return the bytes of a key, or of the values of parts."""
    return len(value) if isinstance(value, bytes) else sum(len(text) for _, text in value)


def _text(value: bytes) -> str:
    return value.decode("utf-8", "surrogateescape")


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _encode_touched(touched: Touched) -> dict[str, Any]:
    tables: dict[str, dict[str, Any]] = {table: {"all": True} for table in touched.whole}
    for table, keys in touched.keys.items():
        tables.setdefault(table, {})["keys"] = [_text(key) for key in keys]
    for table, parts in touched.parts.items():
        tables.setdefault(table, {})["parts"] = [
            [[name, _text(value)] for name, value in part] for part in parts
        ]
    return tables


def _decode(members: dict[str, Any]) -> Message:
    host, run, seen = members.pop("host"), members.pop("run"), members.pop("seen")
    if not (_is_name(host) and _is_name(run) and _is_id(seen)):
        raise ValueError("host, run or seen")
    forget, flush, hears = (members.pop(name, None) for name in ("forget", "flush", "hears"))
    second, history = members.pop("second", ""), members.pop("history", "")
    if members:
        raise ValueError(f"members that are not known: {', '.join(sorted(members))}")
    if flush is not None and not isinstance(flush, dict):
        raise ValueError("flush")
    if not isinstance(second, str) or not _is_name(history):
        raise ValueError("second or history")
    return Message(
        host,
        run,
        seen,
        None if forget is None else _decode_touched(forget),
        flush,
        None if hears is None else _all_heard(hears),
        second,
        history,
    )


def _is_name(text: object) -> bool:
    return isinstance(text, str) and len(text) <= _LONGEST_NAME


def _is_id(text: object) -> bool:
    if not isinstance(text, str):
        return False
    first, dash, second = text.partition("-")
    parts = (first, second)
    return bool(dash) and all(
        part.isascii() and part.isdigit() and len(part) <= _ID_DIGITS for part in parts
    )


def _decode_touched(tables: dict[str, dict[str, Any]]) -> Touched:
    touched = Touched()
    if len(tables) > _MOST_TABLES:
        raise ValueError("forget")
    room = MOST_KEYS
    for table, members in tables.items():
        if set(members) - {"keys", "parts", "all"}:
            raise ValueError("forget")
        if members.get("all"):
            touched.add_table(table)
        keys, key_parts = members.get("keys", ()), members.get("parts", ())
        if not (isinstance(keys, list | tuple) and isinstance(key_parts, list | tuple)):
            raise ValueError("forget")
        room -= len(keys) + len(key_parts)
        if room < 0:
            raise ValueError("forget")
        for key in keys:
            touched.add_key(table, _bytes(key))
        for parts in key_parts:
            if len(parts) > _MOST_PARTS:
                raise ValueError("forget")
            some: SomeParts = tuple((str(name), _bytes(value)) for name, value in parts)
            touched.add_parts(table, some)
    return touched


def _all_heard(hears: dict[str, dict[str, Any]]) -> dict[str, Hears]:
    if len(hears) > _MOST_DATABASES or not all(map(_is_name, hears)):
        raise ValueError("hears")
    if sum(len(heard["servers"]) + len(heard["tables"]) for heard in hears.values()) > _MOST_NAMES:
        raise ValueError("hears")
    return {name: _hears(heard) for name, heard in hears.items()}


def _names(said: object, most: int) -> frozenset[str]:
    """Return what a list of not too many names holds."""
    if not isinstance(said, list) or len(said) > most or not all(map(_is_name, said)):
        raise ValueError("servers or tables")
    return frozenset(said)


def _hears(members: dict[str, Any]) -> Hears:
    epoch, age, since = members["epoch"], members["age"], members["since"]
    servers, tables = (
        _names(members["servers"], _MOST_SERVERS),
        _names(members["tables"], _MOST_TABLES),
    )
    if not isinstance(epoch, int) or not isinstance(age, int | float):
        raise ValueError("epoch or age")
    if not 0 <= age <= _LONGEST_AGE:  # an int may be larger than any float
        raise ValueError("age")
    unlogged = _names(members.get("unlogged", []), _MOST_TABLES)
    if set(members) - {"epoch", "age", "since", "servers", "tables", "unlogged"}:
        raise ValueError("hears")
    if since != "" and not _is_id(since):
        raise ValueError("since")
    return Hears(epoch, float(age), servers, tables, since, unlogged)
