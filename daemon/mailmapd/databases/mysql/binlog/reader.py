"""The reader: packets of a binary log stream in, events out. It never passes over anything in silence.

One event may hold ten thousand rows, or a packed transaction: what it says comes in steps of a millisecond at most, so
that whoever reads may stop between them.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator

import zstandard

from mailmapd.databases.mysql.binlog.bodies import (
    read_committed,
    read_length,
    read_mysql_gtid,
    read_name,
)
from mailmapd.databases.mysql.binlog.columns import UnknownColumnType, read_metadata
from mailmapd.databases.mysql.binlog.events import (
    Change,
    Event,
    Heartbeat,
    Kind,
    LogOpened,
    LogRotated,
    NotUnderstood,
    RowsChanged,
    RowsUnreadable,
    StatementLogged,
    TransactionBegun,
    TransactionEnded,
    TransactionPrepared,
)
from mailmapd.databases.mysql.binlog.packing import inflate, unpacked
from mailmapd.databases.mysql.binlog.rows import BrokenRows, Plans, TableShape
from mailmapd.databases.mysql.framing import PacketSplitter, WireError
from mailmapd.errors import MailmapdError

Wanted = Callable[[str, str, int], tuple[int, ...] | None]
"""Given a schema, a table and its number of columns: the ordinals to read, or None when nobody cares for the table."""

EVENT_LIMIT = 1 << 30
"""The longest event, in bytes, as large as max_allowed_packet can be: the stream ends with a longer one."""

EVENT_KEPT = 4 << 20
"""Kept of an event, in bytes: the rest of a longer one is dropped as it comes, and counts as too long."""

ROWS_LIMIT = 256 << 10
"""The most bytes of one event's rows that are read, unpacked; with more, the table is named and nothing else."""

SQL_LIMIT = (256 << 10) + 4
"""Kept of a statement, in bytes: one that is cut there has more than 64 Ki characters, which nobody reads."""

COLUMNS_LIMIT = 4096
"""The most columns that a table can have (MySQL: 4096, InnoDB: 1017)."""

COLUMNS_KEPT = 100_000
"""The most columns of all descriptions of tables that are remembered; with more, those are forgotten."""

_HEADER = struct.Struct("<IBIIIH")  # when, type, server, size, end position, flags
_CHECKSUM = 4
_TABLES_KEPT = 10_000  # table maps of one log file; a server numbers them anew rarely
_FILE_NAME = 512  # bytes of the longest name of a log
_REFUSAL = 1024  # bytes of a refusal that are kept; a server's own have 512 at most

_OK, _EOF, _ERR = 0x00, 0xFE, 0xFF
_CRC32 = 1
_DUMMY_TABLE = 0xFFFFFF  # the number in a rows event that only ends a statement

_QUERY, _STOP, _ROTATE, _FORMAT_DESCRIPTION, _XID = 2, 3, 4, 15, 16
_TABLE_MAP, _INCIDENT, _HEARTBEAT, _GTID, _XA_PREPARE, _PARTIAL_UPDATE = 19, 26, 27, 33, 38, 39
_TRANSACTION_PAYLOAD, _HEARTBEAT_2, _TAGGED_GTID = 40, 41, 42
_MARIADB_GTID, _MARIADB_QUERY_COMPRESSED = 162, 165
_ARTIFICIAL = (
    0x20  # flag of an event that is not in the log: it names the file that is read from here on
)
_STANDS_ALONE = 1  # flag of MariaDB's GTID event

_ROWS = {
    23: Kind.INSERT, 24: Kind.UPDATE, 25: Kind.DELETE,
    30: Kind.INSERT, 31: Kind.UPDATE, 32: Kind.DELETE,
    166: Kind.INSERT, 167: Kind.UPDATE, 168: Kind.DELETE,
    169: Kind.INSERT, 170: Kind.UPDATE, 171: Kind.DELETE,
}  # fmt: skip
_ROWS_WITH_EXTRA = frozenset((30, 31, 32, 169, 170, 171))
_ROWS_COMPRESSED = frozenset(range(166, 172))

_CRASHED = (
    "a log that ends without its end: the server crashed, and may have lost what it had logged"
)

_HARMFUL = {
    _INCIDENT: "an incident: the server lost changes",
}
_HARMLESS = {
    0: "unknown, ignorable",
    _STOP: "the server stopped",
    5: "INTVAR: belongs to a statement",
    13: "RAND: belongs to a statement",
    14: "USER_VAR: belongs to a statement",
    28: "ignorable",
    29: "ROWS_QUERY: a comment",
    34: "ANONYMOUS_GTID",
    35: "PREVIOUS_GTIDS",
    36: "TRANSACTION_CONTEXT of group replication",
    37: "VIEW_CHANGE of group replication",
    160: "ANNOTATE_ROWS: a comment",
    161: "BINLOG_CHECKPOINT",
    163: "GTID_LIST",
    164: "START_ENCRYPTION: the stream itself is in clear",
}


class BinlogError(MailmapdError):
    """The server ended the stream, or broke the protocol; the text says why. `code` is MySQL's error number, or 0."""

    def __init__(self, text: str, code: int = 0) -> None:
        super().__init__(f"{text} (error {code})" if code else text)
        self.code = code


class BinlogReader:
    """Takes the bytes of a stream and gives its events.

    `wanted` chooses tables and columns. `checksum` says whether events end in one, as the server's variable
    binlog_checksum did when the stream was asked for; it is followed from there. `file` is the log file being read.
    """

    def __init__(self, wanted: Wanted, *, checksum: bool) -> None:
        self.file = ""
        self._wanted = wanted
        self._checksum = checksum
        self._packets = PacketSplitter(EVENT_LIMIT, EVENT_KEPT)
        self._begun: Iterator[Event | None] = iter(())  # what the last event has not said yet
        self._tables: dict[int, TableShape | None] = {}
        self._shapes: dict[tuple[str, str, bytes, bytes, tuple[int, ...]], TableShape] = {}
        self._columns = 0
        self._plans = Plans()
        # Whether the file being read has ended in order; None before there was one
        self._has_ended: bool | None = None

    def forget_shapes(self) -> None:
        """Ask `wanted` again about every table, from its next map on."""
        self._shapes.clear()
        self._tables.clear()
        self._columns = 0
        self._plans.clear()

    def skip(self, schema: str, table: str) -> None:
        """Pass over what is left of rows of a table that were described already; its next map asks `wanted` again."""
        for number, shape in self._tables.items():
            if shape is not None and (shape.schema, shape.table) == (schema, table):
                self._tables[number] = None

    def receive_data(self, data: bytes | memoryview) -> None:
        """Store bytes as they came."""
        self._packets.receive_data(data)

    def events(self) -> Iterator[Event | None]:
        """Yield the events that are complete, and None after a step that gave none. Raises BinlogError.

        Whoever stops in between goes on there with another call.
        """
        try:
            while True:
                for event in self._begun:  # noqa: UP028 (it has to outlive this generator)
                    yield event
                payload = self._packets.next_payload()
                if payload is None:
                    return
                self._begun = self._payload(payload)
        except WireError as error:
            raise BinlogError(f"the server sent {error}") from None

    def _payload(self, payload: bytes) -> Iterator[Event | None]:
        head = payload[0] if payload else _ERR
        if head == _OK:
            yield from self._read(payload)
            yield None
        elif head == _ERR:
            text = payload[9:][:_REFUSAL].decode("utf-8", "replace")
            raise BinlogError(text or "no reason", int.from_bytes(payload[1:3], "little"))
        elif head == _EOF:
            raise BinlogError("the server ended the stream")
        else:
            raise BinlogError("the server sent something else than an event")

    def _read(self, payload: bytes) -> Iterator[Event | None]:
        """Yield what one event says. What does not fit is an event that says so."""
        position = 0
        try:
            when, kind, server, _, position, flags = _HEADER.unpack_from(payload, 1)
            if kind == _FORMAT_DESCRIPTION:
                # The byte before the place of a checksum, which is always there, names its algorithm.
                self._checksum = payload[-_CHECKSUM - 1] == _CRC32
                self._tables.clear()
                yield LogOpened(when)
                if self._has_ended is False:
                    yield NotUnderstood(_CRASHED, position)
                self._has_ended = False
                return
            if kind == _STOP or (kind == _ROTATE and not flags & _ARTIFICIAL):
                self._has_ended = True
            end = len(payload) - (_CHECKSUM if self._checksum else 0)
            body = payload[1 + _HEADER.size : end]
            if kind == _MARIADB_GTID:
                sequence, domain, flags = struct.unpack_from("<QIB", body)
                gtid = f"{domain}-{server}-{sequence}"
                yield TransactionBegun(gtid, position, when, bool(flags & _STANDS_ALONE))
                return
            yield from self._event(kind, position, body)
        except (
            struct.error,
            IndexError,
            KeyError,
            ValueError,
            zlib.error,
            UnknownColumnType,
        ) as error:
            yield NotUnderstood(f"a broken event ({type(error).__name__})", position)
        except zstandard.ZstdError:
            yield NotUnderstood("a transaction that cannot be unpacked", position)

    def _event(  # noqa: C901 (one case for each type of event)
        self, kind: int, position: int, body: bytes
    ) -> Iterator[Event | None]:
        if kind in _ROWS:
            yield from self._rows(kind, position, body)
        elif kind == _TABLE_MAP:
            self._table_map(body)
        elif kind == _XID:
            yield TransactionEnded(position)
        elif kind in {_QUERY, _MARIADB_QUERY_COMPRESSED}:
            yield _statement(kind, position, body)
        elif kind == _TAGGED_GTID:
            # Without its identifier the server cannot be asked whether the transaction is visible
            raise BinlogError("a transaction has a GTID with a tag, which is not understood")
        elif kind == _GTID:
            yield TransactionBegun(read_mysql_gtid(body), position, read_committed(body))
        elif kind in {_HEARTBEAT, _HEARTBEAT_2}:
            yield Heartbeat(position)
        elif kind == _ROTATE:
            if len(body) > 8 + _FILE_NAME:
                raise ValueError
            self.file = body[8:].decode("ascii", "surrogateescape")
            self._tables.clear()
            yield LogRotated(self.file, int.from_bytes(body[:8], "little"))
        elif kind == _TRANSACTION_PAYLOAD:
            yield from self._transaction(position, body)
        elif kind == _XA_PREPARE:
            yield TransactionPrepared(position)
        elif kind == _PARTIAL_UPDATE:
            yield self._partial_update(body, position)
        elif kind not in _HARMLESS:
            yield NotUnderstood(
                _HARMFUL.get(kind, f"an event of the unknown type {kind}"), position
            )

    def _table_map(self, body: bytes) -> None:
        number = int.from_bytes(body[:6], "little")
        self._tables.pop(number, None)  # if this is broken, its rows are of no table that is known
        schema, at = read_name(body, 8)
        table, at = read_name(body, at)
        count, at = read_length(body, at)
        if count > COLUMNS_LIMIT:
            raise ValueError
        if len(self._tables) >= _TABLES_KEPT:
            self._tables.clear()
        ordinals = self._wanted(schema, table, count)
        if ordinals is None:
            self._tables[number] = None
            return
        types = body[at : at + count]
        length, at = read_length(body, at + count)
        metadata = body[at : at + length]
        if len(types) < count or len(metadata) < length:
            raise ValueError
        key = (schema, table, types, metadata, ordinals)
        shape = self._shapes.get(key)
        if shape is None:
            if self._columns + count > COLUMNS_KEPT:
                self.forget_shapes()
            self._columns += count + 1
            of_columns = read_metadata(types, metadata) if ordinals else ()
            shape = TableShape(schema, table, types, of_columns, ordinals, plans=self._plans)
            self._shapes[key] = shape
        self._tables[number] = shape

    def _rows(self, kind: int, position: int, body: bytes) -> Iterator[Event]:
        number = int.from_bytes(body[:6], "little")
        if number == _DUMMY_TABLE and number not in self._tables:
            return
        shape = self._tables.get(number)
        if shape is not None:
            try:
                for changes in _changes(shape, kind, body):
                    yield RowsChanged(shape.schema, shape.table, _ROWS[kind], changes, position)
                    # Whoever stopped here may have asked to skip the table, or to have it described anew.
                    if self._tables.get(number) is not shape:
                        break
            except (UnknownColumnType, BrokenRows, IndexError, zlib.error, ValueError) as error:
                reason = str(error) or "its rows are broken"
                yield RowsUnreadable(shape.schema, shape.table, reason, position)
                return
        if number not in self._tables:
            yield NotUnderstood("rows of a table that was not described", position)

    def _partial_update(self, body: bytes, position: int) -> Event:
        """Name the table of MySQL's partial JSON updates (binlog_row_value_options), whose rows are not read."""
        shape = self._tables.get(int.from_bytes(body[:6], "little"))
        reason = "it was written as a partial JSON update"
        if shape is None:
            return NotUnderstood(reason, position)
        return RowsUnreadable(shape.schema, shape.table, reason, position)

    def _transaction(self, position: int, body: bytes) -> Iterator[Event | None]:
        """Yield the events of MySQL's TRANSACTION_PAYLOAD_EVENT; they have no place of their own in the log."""
        unread = b""
        for piece in unpacked(body):
            unread += piece
            at, end = 0, len(unread)
            while end - at >= _HEADER.size:
                _, kind, _, size, _, _ = _HEADER.unpack_from(unread, at)
                if size < _HEADER.size or kind == _TRANSACTION_PAYLOAD:
                    raise ValueError  # transactions are not nested
                if at + size > end:
                    break
                yield from self._event(kind, position, unread[at + _HEADER.size : at + size])
                yield None
                at += size
            unread = unread[at:]
            yield None
        if unread:
            raise ValueError


def _changes(shape: TableShape, kind: int, body: bytes) -> Iterator[list[Change]]:
    """Yield the changes of a rows event, some at a time.

    Its body is the table's number (6), flags (2), extra data in newer ones, the number of columns, bits of those that
    the images have, and the images.
    """
    at = 8
    if kind in _ROWS_WITH_EXTRA:
        at += int.from_bytes(body[at : at + 2], "little")
    count, at = read_length(body, at)
    if count > COLUMNS_LIMIT:
        raise ValueError("it has more columns than a table can have")
    width = (count + 7) // 8
    mask = (1 << count) - 1  # the bits behind the last column may be set
    present = int.from_bytes(body[at : at + width], "little") & mask
    at += width
    present_after = 0
    if _ROWS[kind] is Kind.UPDATE:
        present_after = int.from_bytes(body[at : at + width], "little") & mask
        at += width
    if len(body) - at > ROWS_LIMIT:
        raise ValueError(f"its rows are longer than {ROWS_LIMIT} bytes")
    rows = body[at:]
    if kind in _ROWS_COMPRESSED:
        rows, whole = inflate(rows, ROWS_LIMIT)
        if not whole:
            raise ValueError(f"its rows are broken, or longer than {ROWS_LIMIT} bytes")
    return shape.changes(_ROWS[kind], (present, present_after), rows)


def _statement(kind: int, position: int, body: bytes) -> StatementLogged:
    """Return a query event: thread (4), seconds (4), schema's length (1), error (2), length of status (2), …, SQL."""
    schema_length = body[8]
    at = 13 + int.from_bytes(body[11:13], "little")
    schema = body[at : at + schema_length]
    sql = body[at + schema_length + 1 :]
    if kind == _MARIADB_QUERY_COMPRESSED:
        sql, whole = inflate(sql, SQL_LIMIT)
        if not whole and len(sql) < SQL_LIMIT:
            raise ValueError
    sql = sql[:SQL_LIMIT]
    return StatementLogged(
        schema.decode("utf-8", "replace"), sql.decode("utf-8", "replace"), position
    )
