"""Sealing: answers as bytes that only hosts with the secret can read or make, under names that say nothing.

    mailmapd:shared:a:NAME   an answer
    mailmapd:shared:g:NAME   its guard: a token, or a tombstone
    mailmapd:shared:m:NAME   a mark: of a table, or of everything

NAME is a keyed BLAKE2b of what it names, in base64. An answer is

    salt (16 bytes) | number (8 bytes) | AES-256-GCM of it, with its whole name as additional data

under a key of its own for each salt: each run of a daemon has one salt, and uses no number twice.
"""

from __future__ import annotations

import hashlib
import os
from base64 import urlsafe_b64encode
from itertools import count

from cachetools import LRUCache
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_SALT = 16  # bytes
_NUMBER = 8  # bytes
_NAME = 18  # bytes; 24 characters of base64
_RUNS = 256  # runs whose keys are at hand
_ZEROS = b"\0" * 4  # what a nonce has in front of the number


class Sealer:
    """Seals and opens with one secret; names begin with a `prefix`."""

    def __init__(self, secret: bytes, prefix: str) -> None:
        self._prefix = prefix.encode()
        self._names, self._values = (
            hashlib.blake2b(secret, person=purpose, digest_size=32).digest()
            for purpose in (b"mailmapd names", b"mailmapd values")
        )
        self._salt = os.urandom(_SALT)
        self._numbers = count(1)
        self._own = self._cipher(self._salt)
        self._others: LRUCache[bytes, AESGCM] = LRUCache(_RUNS)

    def answer(self, table: str, sql_key: bytes) -> tuple[bytes, bytes]:
        """Return the names of a table's answer and of its guard."""
        name = self._name(b"answer", table.encode(), sql_key)
        return self._prefix + b"a:" + name, self._prefix + b"g:" + name

    def mark(self, *table: str) -> bytes:
        """Return the name of the mark of a table, or of everything."""
        return self._prefix + b"m:" + self._name(b"mark", *[part.encode() for part in table])

    def _name(self, *parts: bytes) -> bytes:
        """Return the name of something: `parts` are told apart, whatever bytes they hold."""
        digest = hashlib.blake2b(key=self._names, digest_size=_NAME)
        for part in parts:
            digest.update(len(part).to_bytes(4, "little"))
            digest.update(part)
        return urlsafe_b64encode(digest.digest())

    def seal(self, name: bytes, plain: bytes) -> bytes:
        """Return the bytes that `open` makes `plain` of, under this name and no other."""
        number = next(self._numbers).to_bytes(_NUMBER, "big")
        return self._salt + number + self._own.encrypt(_ZEROS + number, plain, name)

    def open(self, name: bytes, sealed: bytes) -> bytes | None:
        """Return what was sealed under this name, or None for anything else."""
        salt, number = sealed[:_SALT], sealed[_SALT : _SALT + _NUMBER]
        if len(number) < _NUMBER:
            return None
        cipher = self._others.get(salt)
        if cipher is None:
            cipher = self._others[salt] = self._cipher(salt)
        try:
            return cipher.decrypt(_ZEROS + number, sealed[_SALT + _NUMBER :], name)
        except InvalidTag:
            return None

    def _cipher(self, salt: bytes) -> AESGCM:
        return AESGCM(hashlib.blake2b(salt, key=self._values, digest_size=32).digest())
