"""Commands that have a server stream its log: COM_BINLOG_DUMP (MariaDB), COM_BINLOG_DUMP_GTID (MySQL)."""

from __future__ import annotations

import struct

from mailmapd.databases.mysql.binlog.gtids import GtidError, GtidSet
from mailmapd.databases.mysql.framing import encode_payload

_COM_BINLOG_DUMP = 0x12
_COM_BINLOG_DUMP_GTID = 0x1E
_THROUGH_GTID = 0x04  # flag: skip the transactions of the set that follows
_FIRST_POSITION = 4  # bytes of every log file's magic number
_LAST_POSITION = (1 << 32) - 1  # what COM_BINLOG_DUMP has room for


class PlaceError(ValueError):
    """A place in a log that this module cannot ask for; the text says why."""


def encode_dump(file: str, position: int, server_id: int) -> bytes:
    """Return the packet that asks for everything from a position of a file. Raises PlaceError.

    Without a file, MariaDB begins behind the transactions of the session's variable ``slave_connect_state``.
    """
    if position > _LAST_POSITION:
        raise PlaceError(
            f"the log {file!a} is longer than 4 GiB, and its end cannot be asked for; FLUSH BINARY LOGS begins another"
        )
    if not file.isascii():
        raise PlaceError(f"the log has a name outside ASCII: {file!a}")
    command = struct.pack("<BIHI", _COM_BINLOG_DUMP, position, 0, server_id)
    return encode_payload(command + file.encode("ascii"))


def encode_dump_gtid(executed: str, server_id: int) -> bytes:
    """Return the packet that asks for every transaction but those of a set, written as MySQL writes gtid_executed.

    Raises PlaceError.
    """
    try:
        gtids = GtidSet(executed).encode()
    except GtidError as error:
        raise PlaceError(str(error)) from None
    command = struct.pack(
        "<BHIIQI", _COM_BINLOG_DUMP_GTID, _THROUGH_GTID, server_id, 0, _FIRST_POSITION, len(gtids)
    )
    return encode_payload(command + gtids)
