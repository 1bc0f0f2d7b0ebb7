"""Folding keys to lower case, as Postfix does before it asks a table of fixed strings (dict_utf8(3), casefold(3)).

Postfix with ``smtputf8_enable = yes`` (its default since 3.0) folds a key with Unicode's full case
folding, and answers "not found", with a warning, for a key that is not UTF-8. A C string cannot
hold NUL, so Postfix can never ask for such a key; it is not found either.

Not every parameter is opened that way. header_checks and its kind neither fold nor check their
keys, tls_server_sni_maps and others fold without a check, mailbox_transport_maps checks without
folding; and with ``smtputf8_enable = no`` nothing is checked, and only ASCII is folded.
"""

from __future__ import annotations

from collections.abc import Callable

_NUL = 0  # as a number: found eight times as fast as bytes in bytes

Fold = Callable[[bytes], bytes | None]
"""Returns the key as a table sees it, or None when no table can hold it."""


def fold(key: bytes) -> bytes | None:
    """Return the key as a table sees it, or None when no table can hold it (not UTF-8, or with a NUL)."""
    if key.isascii():
        return None if _NUL in key else key.lower()
    try:
        folded = key.decode().casefold().encode()
    except UnicodeDecodeError:
        return None
    return None if _NUL in folded else folded


def unfolded(key: bytes) -> bytes | None:
    """Return the key itself, or None when no table can hold it: checked, but not folded."""
    if _NUL in key:
        return None
    if not key.isascii():
        try:
            key.decode()
        except UnicodeDecodeError:
            return None
    return key


def fold_ascii(key: bytes) -> bytes | None:
    """Return the key with ASCII letters in lower case, whatever its other bytes are."""
    return None if _NUL in key else key.lower()


def as_it_is(key: bytes) -> bytes | None:
    """Return the key as it came: neither checked nor folded."""
    return None if _NUL in key else key


FOLDS: dict[str, Fold] = {
    "unicode": fold,
    "ascii": fold_ascii,
    "utf8": unfolded,
    "none": as_it_is,
}
"""The ways in which Postfix opens tables, under the names that a map's `fold` has."""
