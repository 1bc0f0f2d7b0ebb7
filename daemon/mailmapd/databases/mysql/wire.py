"""The command phase of the MySQL client/server protocol, text protocol only, as a pure codec.

No socket, no loop, no clock. One query and its reply, each line the payload of a packet (see
`framing`)::

    client   03 SQL                                   COM_QUERY
    server   00 rows id status(2) warnings(2) …       OK: no result set
         or  ff code(2) '#' state(5) text             ERR
         or  count                                    a result set of `count` columns, followed by
             catalog db table org_table name …        one column definition for each
             fe warnings(2) status(2)                 EOF
             value value …                            a row: each value with its length before it, fb for NULL
             fe warnings(2) status(2)                 EOF

While `status` has SERVER_MORE_RESULTS_EXISTS another reply follows: CALL ends in an OK of its own.

Why not the library's reader: it awaits each packet's header and body one by one, ten awaits for a
one-row result. This one reads a whole reply in a single call. See MySQL's "Client/Server Protocol"
and MariaDB's "Clientserver protocol" manuals; the capability CLIENT_DEPRECATE_EOF is off.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from mailmapd.databases.mysql.framing import HEADER, PacketReader, WireError, encode_payload

if TYPE_CHECKING:
    from mailmapd.model import Row

MAX_RESULT = 4 * 1024 * 1024
"""The largest reply that is collected, in bytes of memory: forty times what socketmap takes, far below what hurts."""

MAX_ROW = 16 * 1024 * 1024
"""The longest row of a long result, whose other rows are taken away as they come, in bytes."""

MAX_STREAM = 8 * 1024**3
"""The longest result that is read row by row, in bytes: a hundred million users."""

MAX_COLUMNS = 4096
"""MySQL's and MariaDB's own limit."""

_ROW_COST, _VALUE_COST = 64, 40
"""The cost of a row, and of a value in it, beside its bytes, in bytes of Python's memory."""

_MAX_TEXT = 1024
"""Bytes of an error's text that are kept; a server's own has at most 512."""

STATUS_IN_TRANSACTION = 0x0001
STATUS_MORE_RESULTS = 0x0008
STATUS_NO_BACKSLASH_ESCAPES = 0x0200

_COM_QUIT = b"\x01"
_COM_QUERY = b"\x03"

_OK = 0x00
_LOCAL_INFILE = 0xFB
_EOF = 0xFE
_ERR = 0xFF
_NULL = 0xFB

_MAX_EOF = 8
"""A payload that starts like EOF but is longer is a row whose first value has an 8-byte length."""

_KNOWN_HEADS, _KNOWN_SIZE = 16, 2048
"""Heads of result sets that a connection remembers, and the most bytes of each: a statement's are always the same."""

_EOF_PACKET = HEADER + 5
"""The length of an EOF with its header, in bytes."""


class ServerError(NamedTuple):
    """An ERR packet: MySQL's error number and text."""

    code: int
    text: str


@dataclass(frozen=True, slots=True)
class _Head:
    """The beginning of a reply: from the number of columns to the EOF behind their definitions.

    Of what may come next: the number of its packet; what the header of a short row has behind the
    row's length; and how the EOF begins that ends a result without rows. Then both the number and
    the EOF's beginning once more for what comes behind that row.
    """

    packets: bytes
    columns: tuple[str, ...]
    sequence: int
    row: bytes
    eof: bytes
    sequence_behind_row: int
    eof_behind_row: bytes

    @classmethod
    def of(cls, packets: bytes, columns: tuple[str, ...], sequence: int) -> _Head:
        """Return a head that the packet of this number follows."""
        after = (sequence + 1) & 0xFF
        row = bytes([0, 0, sequence])
        return cls(packets, columns, sequence, row, _eof(sequence), after, _eof(after))


def _eof(sequence: int) -> bytes:
    """Return how the packet of an EOF begins: warnings and status follow."""
    return bytes([_EOF_PACKET - HEADER, 0, 0, sequence, _EOF])


QUIT = encode_payload(_COM_QUIT)


def encode_query(sql: bytes) -> bytes:
    """Return the packets of COM_QUERY."""
    return encode_payload(_COM_QUERY + sql)


class ReplyReader(PacketReader):
    """Reads the replies of one connection, one command at a time.

    After `start`, `receive_data` takes bytes as they come and returns True when the reply is
    complete. Then `error` is what the server refused with, or None; `columns` and `rows` are those
    of the first result set (columns is None when there was none); `result_sets` counts them;
    `status` holds the server's flags. Rows may be taken away before the end with `take_rows`.
    """

    __slots__ = (
        "_heads",
        "_limit",
        "_max_result",
        "_names",
        "_received",
        "_row_cost",
        "columns",
        "encoding",
        "error",
        "overflow",
        "result_sets",
        "rows",
        "status",
    )

    def __init__(self, encoding: str = "utf-8", *, max_result: int = MAX_RESULT) -> None:
        self.encoding = encoding
        self._max_result = max_result
        self.status = 0
        self._row_cost = 0
        self._names: list[str] = []
        self._heads: list[_Head] = []
        super().__init__(max(max_result, MAX_ROW))
        self.start()

    def start(self, *, stream: bool = False, limit: int | None = None) -> None:
        """Prepare for the reply to a new command.

        `stream` is for a caller that takes rows away as they come, and lifts the limit to
        `MAX_STREAM`; `limit` sets one of its own.
        """
        self.error: ServerError | None = None
        self.columns: tuple[str, ...] | None = None
        self.rows: list[Row] = []
        self.result_sets = 0
        self.overflow = False
        self._expect = ReplyReader._read_head
        self._limit = limit or (MAX_STREAM if stream else self._max_result)
        self._received = 0
        self._restart()

    def take_rows(self) -> list[Row]:
        """Return the rows read so far and forget them."""
        rows, self.rows = self.rows, []
        return rows

    def receive_data(self, data: bytes) -> bool:
        """Read what came; return whether the reply is complete. Raises WireError."""
        size = len(data)
        self._received += size
        if self._received + len(self.rows) * self._row_cost > self._limit:
            self.overflow = True
            raise WireError(f"the result is larger than {self._limit} bytes")
        if self._received == size:  # the reply begins here
            for head in self._heads:
                if data.startswith(head.packets):
                    return self._read_behind(head, data)
        return super().receive_data(data)

    def _read_behind(self, head: _Head, data: bytes) -> bool:
        """Read what follows a known head: nearly always one short row, or none, and the EOF that ends it all.

        That takes a third of the steps of reading packet by packet, which is left with everything else.
        """
        self.result_sets = 1
        self.columns = head.columns
        sequence, eof = head.sequence, head.eof
        at, last = len(head.packets), len(data) - _EOF_PACKET
        start = at + HEADER
        if (
            start < last
            and data[at] == last - start
            and data.startswith(head.row, at + 1)
            and data[start] <= _NULL  # neither an EOF nor an ERR
        ):
            if self._read_row(data, start, last):
                raise WireError("bytes follow a complete reply")
            at, sequence, eof = last, head.sequence_behind_row, head.eof_behind_row
        if at == last and data.startswith(eof, at):
            status = data[-2] | data[-1] << 8
            if not status & STATUS_MORE_RESULTS:
                self.status = status
                return True
        self._begin_rows(head.columns)
        self._sequence = sequence
        return self._read(data, at)

    def _begin_rows(self, columns: tuple[str, ...]) -> None:
        """Expect the rows of the first result set."""
        self.columns = columns
        self._row_cost = _ROW_COST + _VALUE_COST * len(columns)
        self._expect = ReplyReader._read_row

    def _remember(self, packets: bytes, columns: tuple[str, ...]) -> None:
        """Know the head of a result set again, if it began the reply and has an ordinary length."""
        if packets[HEADER] == _OK or len(packets) > _KNOWN_SIZE:
            return
        heads = self._heads
        if packets not in [head.packets for head in heads]:
            del heads[_KNOWN_HEADS - 1 :]
            heads.insert(0, _Head.of(packets, columns, self._sequence))

    def _read_head(self, data: bytes, start: int, end: int) -> bool:
        """Read the first packet of a reply: OK, ERR or the number of columns."""
        if start == end:
            raise WireError("an empty packet where a reply begins")
        head = data[start]
        if head == _ERR:
            return self._read_error(data, start, end)
        if head == _OK:
            _, at = _integer(data, start + 1)
            _, at = _integer(data, at)
            return self._end_set(data, at, end)
        if head == _LOCAL_INFILE:
            raise WireError("the server asks for a file of this host, which it never gets")
        self.result_sets += 1
        self._names = []
        self._expect = ReplyReader._read_column
        return False

    def _read_column(self, data: bytes, start: int, end: int) -> bool:
        """Read a column definition, or the EOF behind the last one."""
        if _is_eof(data, start, end):
            if self.result_sets == 1:
                columns = tuple(self._names)
                self._begin_rows(columns)
                if self._received == len(data):  # all that has come of the reply
                    self._remember(data[:end], columns)
            else:
                self._expect = ReplyReader._skip_row
            return False
        if data[start] == _ERR:
            return self._read_error(data, start, end)
        self._names.append(_column_name(data[start:end], self.encoding))
        if len(self._names) > MAX_COLUMNS:
            raise WireError(f"a result of more than {MAX_COLUMNS} columns")
        return False

    def _read_row(self, data: bytes, start: int, end: int) -> bool:
        """Read a row of the first result set, or the EOF behind the last one."""
        if 0 < end - start <= _MAX_EOF and data[start] == _EOF:  # `_is_eof` without its call
            return self._end_set(data, start + 3, end)
        row: list[bytes | None] = []
        at = start
        while at < end:
            size = data[at]
            at += 1
            if size >= _NULL:
                if size == _NULL:
                    row.append(None)
                    continue
                if size == _ERR:
                    return self._read_error(data, start, end)
                size, at = _integer(data, at - 1)
            row.append(data[at : at + size])
            at += size
        if at != end or len(row) != len(self.columns or ()):
            raise WireError("a row is not as long as its columns")
        self.rows.append(tuple(row))
        return False

    def _skip_row(self, data: bytes, start: int, end: int) -> bool:
        """Skip a row of a second result set, which is an error anyway."""
        if _is_eof(data, start, end):
            return self._end_set(data, start + 3, end)
        if start < end and data[start] == _ERR:
            return self._read_error(data, start, end)
        return False

    def _read_error(self, data: bytes, start: int, end: int) -> bool:
        """Read an ERR packet, which ends every reply."""
        if end - start < 3:
            raise WireError("an error packet without a number")
        text = start + 9 if data[start + 3 : start + 4] == b"#" else start + 3
        self.error = ServerError(
            data[start + 1] | data[start + 2] << 8,
            data[text : min(end, text + _MAX_TEXT)].decode("utf-8", "replace"),
        )
        return True

    def _end_set(self, data: bytes, at: int, end: int) -> bool:
        """Note the flags that end a result set or an OK; return whether it was the last."""
        if at + 2 > end:
            raise WireError("a packet ends before the server's flags")
        self.status = data[at] | data[at + 1] << 8
        self._expect = ReplyReader._read_head
        return not self.status & STATUS_MORE_RESULTS


def _is_eof(data: bytes, start: int, end: int) -> bool:
    return end - start <= _MAX_EOF and start < end and data[start] == _EOF


def _integer(data: bytes, at: int) -> tuple[int, int]:
    """Read a length-encoded integer; return it and where it ends."""
    head = data[at]
    if head < _NULL:
        return head, at + 1
    width = {0xFC: 2, 0xFD: 3, 0xFE: 8}.get(head)
    if width is None or at + 1 + width > len(data):
        raise WireError("a length that is none")
    return int.from_bytes(data[at + 1 : at + 1 + width], "little"), at + 1 + width


def _column_name(definition: bytes, encoding: str) -> str:
    """Return the name in a column definition, the fifth of its strings: the alias, where the query gives one."""
    at = 0
    size = 0
    for _ in range(5):
        at += size
        size, at = _integer(definition, at)
    if at + size > len(definition):
        raise WireError("a column definition ends within its name")
    return definition[at : at + size].decode(encoding, "backslashreplace")
