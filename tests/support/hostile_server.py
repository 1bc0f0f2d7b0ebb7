"""A database server that means harm, as a process of its own: `python -m support.hostile_server FILE PORT`.

The file names the kind of harm, and may be written again at any time. To whoever follows its log it sends

    log rows       events of eighty thousand rows of one byte each
    log keys       rows of different keys without end, in transactions that never become visible
    log packed     packed transactions of four megabytes, of events that say nothing
    log maps       descriptions of tables with very many columns, each another one, and rows with other NULLs
    log long       events of 32 MiB
    log tables     statements that define tables without end
    log wide       values as long as an event's rows may be
    log names      nothing: the log ends, and what its transactions are called is not understood
    log words      a refusal with words that want to be obeyed

and to whoever asks for a row

    rows           rows of one byte without end
    nulls          rows of five hundred NULLs without end
    columns        definitions of columns without end
    chained        one row that never ends
    text           an error with 15 MiB of text

Otherwise (`quiet`) it answers, and its log has heartbeats only.
"""

from __future__ import annotations

import asyncio
import re
import struct
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from mailmapd.databases.mysql.framing import encode_payload
from support.binlog_events import bare, event, transaction
from support.hostile_database import EOF, OK, Peer, column, greeting, hostile_database

VERSION = b"5.5.5-10.11.6-MariaDB"
COLUMNS = (b"address", b"goto")
VARIABLES = {b"log_bin": b"ON", b"binlog_format": b"ROW", b"log_slave_updates": b"ON"}
SCHEMA, TABLE = b"\4mail\0", b"\5alias\0"
PLACE = (
    (b"Binlog_commits", b"0"),
    (b"Binlog_snapshot_file", b"binlog.000001"),
    (b"Binlog_snapshot_position", b"4"),
)
EVIL = "x\x1b[2J\nERROR forged\u009b31m\u202e <b>"
HARM = ("rows", "nulls", "columns", "chained", "text")
HEARTBEATS = 0.2  # seconds

INSERT, QUERY, TABLE_MAP, XID, HEARTBEAT, IGNORABLE = 23, 2, 19, 16, 27, 28
FORMAT_DESCRIPTION = 15


def description(count: int = 2, length: int = 99) -> bytes:
    """Return the description of table 1, mail.alias, with VARCHAR columns."""
    types, metadata = b"\x0f" * count, struct.pack("<H", length) * count
    sizes = [b"\xfc" + size.to_bytes(2, "little") for size in (count, len(metadata))]
    head = (1).to_bytes(6, "little") + bytes(2) + SCHEMA + TABLE
    return event(TABLE_MAP, head + sizes[0] + types + sizes[1] + metadata + bytes((count + 7) // 8))


def rows(images: bytes, count: int = 2) -> bytes:
    """Return an event of inserted rows of that table."""
    head = (1).to_bytes(6, "little") + bytes(2) + b"\xfc" + count.to_bytes(2, "little")
    return event(INSERT, head + b"\xff" * ((count + 7) // 8) + images)


def statement(sql: bytes) -> bytes:
    """Return a statement that is logged as text."""
    return event(QUERY, bytes(8) + b"\4" + bytes(4) + b"mail\0" + sql)


def what(kind: str) -> Iterator[bytes]:
    """Yield the events of a kind of harm, without end."""
    number = 0
    if kind == "log words" or not kind.startswith("log "):
        return
    idle = transaction(bare(IGNORABLE, b"") * (4_000_000 // 19))
    while True:
        number += 1
        if kind == "log rows":
            yield description()
            yield rows(b"\0\0\0" * 80_000)
        elif kind == "log keys":
            yield description()
            yield rows(b"\0\x13%019d\x00" % number)
            yield event(XID, bytes(8))
        elif kind == "log packed":
            yield idle
        elif kind == "log maps":
            count = 3000 + number % 1000
            yield description(count, number % 60_000)
            yield rows(struct.pack("<Q", number) + bytes(4096), count)
        elif kind == "log long":
            yield rows(bytes(32 << 20))
        elif kind == "log tables":
            yield statement(b"ALTER TABLE alias ADD COLUMN a%d INT" % number)
        elif kind == "log wide":
            yield description(2, 60_000)
            yield rows(b"\0" + (struct.pack("<H", 60_000) + b"@" * 60_000) * 2)


def harm(kind: str) -> Iterator[bytes]:
    """Yield the bytes that answer a query in a harmful way, packet by packet or in larger pieces."""
    head = {"nulls": b"\xfc\x00\x02", "rows": b"\x01", "columns": b"\x01", "chained": b"\x01"}
    number = 1

    def numbered(payload: bytes) -> bytes:
        nonlocal number
        packet = encode_payload(payload, number)
        number = (number + 1) & 0xFF
        return packet

    if kind == "text":
        yield numbered(b"\xff\x15\x04#28000" + b"x" * (15 << 20))
        return
    yield numbered(head[kind])
    if kind != "columns":
        yield b"".join([numbered(column()) for _ in range(512 if kind == "nulls" else 1)])
        yield numbered(EOF)
    while True:
        if kind == "chained":
            yield b"\xff\xff\xff" + bytes([number]) + bytes(0xFFFFFF)
            number = (number + 1) & 0xFF
        elif kind == "columns":
            yield b"".join([numbered(column(b"%06d" % number)) for number in range(1000)])
        else:
            yield b"".join(
                [numbered(b"\xfb" * 512 if kind == "nulls" else b"\0") for _ in range(4096)]
            )


def results(rows: Sequence[tuple[bytes, ...]], columns: int) -> list[bytes]:
    """Return a result set's payloads."""
    values = [b"".join([len(value).to_bytes(1, "little") + value for value in row]) for row in rows]
    return [bytes((columns,)), *[column()] * columns, EOF, *values, EOF]


def answer(sql: bytes, kind: str) -> list[bytes]:
    """Return what such a server answers to a statement."""
    if sql.startswith((b"SHOW GLOBAL VARIABLES", b"SHOW SESSION VARIABLES")):
        names = re.findall(rb"'(\w+)'", sql)
        return results([(name, VARIABLES.get(name, b"")) for name in names], 2)
    if sql.startswith(b"SELECT table_schema, table_name, column_name"):
        of_columns = [
            (b"mail", b"alias", name, b"%d" % number, b"varchar", b"utf8mb4_general_ci", b"")
            for number, name in enumerate(COLUMNS, 1)
        ]
        return results(of_columns, 7)
    if sql.startswith(b"SELECT table_schema, table_name, table_type"):
        return results([(b"mail", b"alias", b"BASE TABLE", b"InnoDB")], 4)
    if sql.startswith(b"SELECT table_schema"):
        return results([], 3)
    if sql.startswith(b"SHOW CREATE TABLE"):
        return results([(b"alias", b"CREATE TABLE alias (address VARCHAR(99))")], 2)
    if sql.startswith(b"SHOW STATUS"):
        return results(PLACE, 2)
    if sql.startswith(b"SELECT @@global.server_id"):
        return results([(b"1", b"host", b"3306", b"/data/", b"")], 5)
    value = b"found"
    if b"@@global.gtid_" in sql:
        value = EVIL.encode() if kind == "log names" else b"0-1-7"
    elif b"binlog_checksum" in sql:
        value = b"NONE"
    return results([(value,)], 1) if sql.startswith(b"SELECT") else [OK]


def read(file: Path) -> str:
    """Return the text of a file."""
    return file.read_text(encoding="ascii")


async def stream(peer: Peer, chosen: Path) -> None:
    """Send the log, with heartbeats in between."""
    await peer.raw(event(FORMAT_DESCRIPTION, bytes(80)))  # no checksums
    due = 0.0
    events: Iterator[bytes] = iter(())
    kind = ""
    while True:
        if time.monotonic() > due:
            await peer.raw(event(HEARTBEAT, b"binlog.000001"))
            due = time.monotonic() + HEARTBEATS
            if kind != (now := read(chosen)):
                kind, events = now, what(now)
            if kind == "log names":
                return
            if kind == "log words":
                await peer.raw(encode_payload(b"\xff\xd4\x04#HY000" + EVIL.encode()))
        piece = next(events, None)
        if piece is None:
            await asyncio.sleep(HEARTBEATS)
        else:
            await peer.raw(piece)
            await asyncio.sleep(0)


async def serve(chosen: Path, port: int) -> None:
    """Serve on a port until the process is ended."""

    async def behave(peer: Peer) -> None:
        await peer.send(greeting(version=VERSION))
        await peer.receive()
        await peer.send(OK)
        while True:
            command = await peer.receive()
            if command[0] in {0x12, 0x1E}:
                await stream(peer, chosen)
            kind = read(chosen)
            if b" FROM alias WHERE" in command and kind in HARM:
                for piece in harm(kind):
                    await peer.raw(piece)
                    await asyncio.sleep(0)
                continue
            await peer.send(*answer(command[1:], kind))

    async with hostile_database(behave, port=port):
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]), int(sys.argv[2])))
