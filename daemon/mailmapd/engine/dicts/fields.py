"""Fields for Dovecot, made of a row: one flat JSON object, its members named as the columns, in their order.

    {"user": "a@example.com", "password": "{BLF-CRYPT}$2y$…", "userdb_home": "/srv/mail/a"}

As with Dovecot's own SQL driver (src/auth/passdb-sql.c, userdb-sql.c, auth-request.c): NULL is an
absent field, a column without a name is skipped, every value is a string, the first password of a
row counts, and a password without ``{SCHEME}`` gets the configured scheme (that of a
`password_noscheme` column always does). The dict driver's own default scheme never matters, because
the prefix is always there.

Unlike there, several rows are an error for userdb, too: which of them is meant is nobody's guess.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

from mailmapd.errors import DataError, SchemaError
from mailmapd.model import ResultSet

OBJECT_LIMIT = 65_000  # bytes; a reply line of the dict protocol holds 64 KiB with its framing
_PASSWORDS = ("password", "password_noscheme")
_SECRET = re.compile("pass|secret|token|private|hash", re.IGNORECASE)
_SPECIAL = re.compile(rb'[\x01-\x1f"\\]')
_ESCAPES = {b'"': b'\\"', b"\\": b"\\\\"}

Field = tuple[str, bytes]


@dataclass(frozen=True)
class UserdbFields:
    """Reads the row of a user_query; `table` is named in errors."""

    table: str

    def read(self, result: ResultSet) -> bytes | None:
        """Return the JSON object, or None for no row. Raises DataError for rows that cannot be used."""
        if not result.rows:
            return None
        if len(result.rows) > 1:
            raise DataError(f"table {self.table}: more than one row for one user")
        present = [
            (name, value)
            for name, value in zip(result.columns, result.rows[0], strict=True)
            if name and value is not None
        ]
        return _json(self.table, self._fields(result.columns, present))

    # PassdbFields needs the columns
    def _fields(self, columns: tuple[str, ...], present: list[Field]) -> Iterator[Field]:  # noqa: ARG002
        yield from present


@dataclass(frozen=True)
class PassdbFields(UserdbFields):
    """Reads the row of a password_query; `scheme` is what an unprefixed password is taken for."""

    scheme: str

    def _fields(self, columns: tuple[str, ...], present: list[Field]) -> Iterator[Field]:
        if not any(name in columns for name in _PASSWORDS):
            raise SchemaError(
                f"table {self.table}: a password query must return a column named password"
            )
        seen = False
        for name, value in present:
            if name not in _PASSWORDS:
                yield name, value
            elif not seen:
                seen = True
                prefixed = name == "password" and value.startswith(b"{") and b"}" in value
                yield "password", value if prefixed else b"{%b}%b" % (self.scheme.encode(), value)


def mask_secrets(payload: bytes) -> bytes:
    """Return the JSON object with every value that may be a password or hash replaced, for showing to people."""
    members = json.loads(payload.decode("utf-8", "replace"), strict=False, object_pairs_hook=list)
    shown = [
        f"{json.dumps(name)}: {json.dumps('(hidden)' if _SECRET.search(name) else value, ensure_ascii=False)}"
        for name, value in members
    ]
    return ("{" + ", ".join(shown) + "}").encode()


def renamed(user: bytes, payload: bytes) -> bytes:
    """Return the name that the fields of a JSON object make of a user's, as Dovecot's get_updated_username does."""
    members = json.loads(payload.decode("utf-8", "surrogateescape"), object_pairs_hook=list)
    for name, text in members:
        value = text.encode("utf-8", "surrogateescape")
        local, at, domain = user.partition(b"@")
        if name == "user" or (name == "username" and b"@" in value):
            user = value
        elif name == "username":
            user = value + at + domain
        elif name == "domain":
            user = local + b"@" + value
    return user


def _json(table: str, fields: Iterator[Field]) -> bytes:
    members = [
        b'"%b": "%b"' % (_escape(table, name, name.encode()), _escape(table, name, value))
        for name, value in fields
    ]
    text = b"{%b}" % b", ".join(members)
    if len(text) > OBJECT_LIMIT:
        raise DataError(
            f"table {table}: the row is longer than {OBJECT_LIMIT} bytes, more than a dict reply holds"
        )
    return text


def _escape(table: str, name: str, value: bytes) -> bytes:
    if b"\0" in value:
        raise DataError(
            f"table {table}: column {name!r} holds a NUL byte, which Dovecot cannot read"
        )
    return _SPECIAL.sub(lambda match: _ESCAPES.get(match[0]) or b"\\u%04x" % match[0][0], value)
