"""Sizes of columns: the bytes that each takes in a row image, by its type and metadata in the table map.

A size is either fixed, or stands in front of the value. Values are never decoded here. The layout is
that of the servers' ``Field::pack`` functions; see "Rows_event" and "Table_map_event" in MySQL's source documentation.
"""

from __future__ import annotations

from typing import NamedTuple

_DECIMAL_DIGIT_BYTES = (0, 1, 1, 2, 2, 3, 3, 4, 4, 4)
"""Bytes of the digits of a DECIMAL that do not fill a group of nine, by their number."""

DECIMAL, TINY, SHORT, LONG, FLOAT, DOUBLE, NULL, TIMESTAMP, LONGLONG, INT24 = range(10)
DATE, TIME, DATETIME, YEAR, NEWDATE, VARCHAR, BIT = range(10, 17)
TIMESTAMP2, DATETIME2, TIME2 = range(17, 20)
MARIADB_BLOB_COMPRESSED, MARIADB_VARCHAR_COMPRESSED = 140, 141
VECTOR, JSON, NEWDECIMAL, ENUM, SET = 242, 245, 246, 247, 248
TINY_BLOB, MEDIUM_BLOB, LONG_BLOB, BLOB, VAR_STRING, STRING, GEOMETRY = range(249, 256)

_FIXED = {
    TINY: 1, SHORT: 2, LONG: 4, FLOAT: 4, DOUBLE: 8, NULL: 0, TIMESTAMP: 4, LONGLONG: 8, INT24: 3,
    DATE: 3, TIME: 3, DATETIME: 8, YEAR: 1, NEWDATE: 3,
}  # fmt: skip
_LENGTH_IN_METADATA = frozenset(
    (TINY_BLOB, MEDIUM_BLOB, LONG_BLOB, BLOB, JSON, GEOMETRY, VECTOR, MARIADB_BLOB_COMPRESSED)
)
_METADATA_TWO = frozenset(
    (VARCHAR, BIT, NEWDECIMAL, ENUM, SET, VAR_STRING, STRING, MARIADB_VARCHAR_COMPRESSED)
)
_METADATA_ONE = _LENGTH_IN_METADATA | {FLOAT, DOUBLE, TIMESTAMP2, DATETIME2, TIME2}
_BIG_ENDIAN = frozenset((NEWDECIMAL, ENUM, SET, STRING, BIT))
"""Types whose two bytes of metadata are two numbers: put together here with the first one high."""

_ONE_BYTE_LENGTH = 255
"""The longest value, in bytes, whose length takes one byte."""


class UnknownColumnType(Exception):
    """A type that this module does not know: where the next column begins cannot be told."""


class ColumnSize(NamedTuple):
    """`fixed` bytes, or a length of `length` bytes in front of the value; the other one is 0."""

    fixed: int
    length: int


def read_metadata(types: bytes, data: bytes) -> tuple[int, ...]:
    """Return each column's metadata from the table map's block of it. Raises UnknownColumnType when it is too short."""
    found = []
    at = 0
    for kind in types:
        if kind in _METADATA_TWO:
            low, high = data[at : at + 2] if at + 2 <= len(data) else (-1, -1)
            found.append(low << 8 | high if kind in _BIG_ENDIAN else low | high << 8)
            at += 2
        elif kind in _METADATA_ONE:
            found.append(data[at] if at < len(data) else -1)
            at += 1
        else:
            found.append(0)
    if at > len(data):
        raise UnknownColumnType("the table map ends early")
    return tuple(found)


def column_size(kind: int, metadata: int) -> ColumnSize:
    """Return the size of a column's values. Raises UnknownColumnType."""
    if kind in _FIXED:
        return ColumnSize(_FIXED[kind], 0)
    if kind in {VARCHAR, VAR_STRING, MARIADB_VARCHAR_COMPRESSED}:
        return ColumnSize(0, 1 if metadata <= _ONE_BYTE_LENGTH else 2)
    if kind in _LENGTH_IN_METADATA:
        return ColumnSize(0, metadata)
    if kind == STRING:
        return _string_size(metadata)
    if kind in {ENUM, SET}:
        return ColumnSize(metadata & 0xFF, 0)
    if kind == NEWDECIMAL:
        return ColumnSize(_decimal_size(metadata >> 8, metadata & 0xFF), 0)
    if kind == BIT:
        # The metadata is (bits that do not fill a byte, whole bytes).
        return ColumnSize((metadata & 0xFF) + (1 if metadata >> 8 else 0), 0)
    base = {TIMESTAMP2: 4, DATETIME2: 5, TIME2: 3}.get(kind)
    if base is None:
        raise UnknownColumnType(f"it has a column of the unknown type {kind}")
    return ColumnSize(base + (metadata + 1) // 2, 0)


def _string_size(metadata: int) -> ColumnSize:
    """Return the size of CHAR, whose metadata may hide ENUM or SET, and two bits of a length above 255."""
    high, low = metadata >> 8, metadata & 0xFF
    if high & 0x30 != 0x30:
        return ColumnSize(0, 1 if low | ((high & 0x30) ^ 0x30) << 4 <= _ONE_BYTE_LENGTH else 2)
    if high in {ENUM, SET}:
        return ColumnSize(low, 0)
    return ColumnSize(0, 1)


def _decimal_size(precision: int, scale: int) -> int:
    whole, whole_rest = divmod(precision - scale, 9)
    part, part_rest = divmod(scale, 9)
    return 4 * (whole + part) + _DECIMAL_DIGIT_BYTES[whole_rest] + _DECIMAL_DIGIT_BYTES[part_rest]
