"""Commands that have a server stream its log: COM_BINLOG_DUMP (MariaDB), COM_BINLOG_DUMP_GTID (MySQL)."""

from __future__ import annotations

import struct
import uuid

from mailmapd.databases.mysql.framing import encode_payload

_COM_BINLOG_DUMP = 0x12
_COM_BINLOG_DUMP_GTID = 0x1E
_THROUGH_GTID = 0x04  # flag: skip the transactions of the set that follows
_FIRST_POSITION = 4  # bytes of every log file's magic number
_LAST_POSITION = (1 << 32) - 1  # what COM_BINLOG_DUMP has room for
_LAST_NUMBER = (1 << 63) - 1  # of a transaction


class PlaceError(ValueError):
    """A place in a log that this module cannot ask for; the text says why."""


def encode_dump(file: str, position: int, server_id: int) -> bytes:
    """Return the packet that asks for everything from a position of a file. Raises PlaceError."""
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
    gtids = encode_gtid_set(executed)
    command = struct.pack(
        "<BHIIQI", _COM_BINLOG_DUMP_GTID, _THROUGH_GTID, server_id, 0, _FIRST_POSITION, len(gtids)
    )
    return encode_payload(command + gtids)


def gtid_numbers(text: str) -> dict[str, int]:
    """Return each server's last transaction in a set as MySQL writes it; other forms are passed over."""
    found: dict[str, int] = {}
    for part in text.replace("\n", "").split(","):
        server, _, intervals = part.strip().partition(":")
        last = intervals.rpartition(":")[2].rpartition("-")[2]
        if last.isdecimal():
            found[server] = max(int(last), found.get(server, 0))
    return found


def encode_gtid_set(text: str) -> bytes:
    """Return the binary form of ``uuid:1-5:7,uuid:1``: for each server its UUID and half-open intervals.

    Raises PlaceError, also for identifiers with tags (MySQL 8.3 and newer), which have another form.
    """
    servers: dict[bytes, list[tuple[int, int]]] = {}
    for part in text.replace("\n", "").split(","):
        if not part.strip():
            continue
        name, *intervals = part.strip().split(":")
        try:
            spans = servers.setdefault(uuid.UUID(name).bytes, [])
            for interval in intervals:
                first, _, last = interval.partition("-")
                numbers = int(first), int(last or first)
                if not 0 < numbers[0] <= numbers[1] <= _LAST_NUMBER:
                    raise ValueError
                spans.append((numbers[0], numbers[1] + 1))
        except ValueError:
            raise PlaceError(f"gtid_executed has a part that is not understood: {part}") from None
    packed = [struct.pack("<Q", len(servers))]
    for server, spans in servers.items():
        packed.append(server + struct.pack("<Q", len(spans)))
        packed += [struct.pack("<QQ", first, end) for first, end in spans]
    return b"".join(packed)
