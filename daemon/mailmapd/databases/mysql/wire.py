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

from typing import TYPE_CHECKING, NamedTuple

from mailmapd.databases.mysql.framing import PacketReader, WireError, encode_payload

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

_KNOWN_COLUMNS, _KNOWN_SIZE = 1000, 1024
"""Column definitions that a connection remembers, and the most bytes of each: a table's are always the same."""


class ServerError(NamedTuple):
    """An ERR packet: MySQL's error number and text."""

    code: int
    text: str


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
        "_known",
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
        self._known: dict[bytes, str] = {}
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
        self._names: list[str] = []
        self._limit = limit or (MAX_STREAM if stream else self._max_result)
        self._row_cost = _ROW_COST
        self._received = 0
        self._restart()

    def take_rows(self) -> list[Row]:
        """Return the rows read so far and forget them."""
        rows, self.rows = self.rows, []
        return rows

    def receive_data(self, data: bytes) -> bool:
        """Read what came; return whether the reply is complete. Raises WireError."""
        self._received += len(data)
        if self._received + len(self.rows) * self._row_cost > self._limit:
            self.overflow = True
            raise WireError(f"the result is larger than {self._limit} bytes")
        return super().receive_data(data)

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
                self.columns = tuple(self._names)
                self._row_cost = _ROW_COST + _VALUE_COST * len(self.columns)
                self._expect = ReplyReader._read_row
            else:
                self._expect = ReplyReader._skip_row
            return False
        if data[start] == _ERR:
            return self._read_error(data, start, end)
        definition = data[start:end]
        name = self._known.get(definition)
        if name is None:
            name = _column_name(definition, self.encoding)
            if len(self._known) >= _KNOWN_COLUMNS:
                self._known.clear()
            if len(definition) <= _KNOWN_SIZE:
                self._known[definition] = name
        self._names.append(name)
        if len(self._names) > MAX_COLUMNS:
            raise WireError(f"a result of more than {MAX_COLUMNS} columns")
        return False

    def _read_row(self, data: bytes, start: int, end: int) -> bool:
        """Read a row of the first result set, or the EOF behind the last one."""
        if _is_eof(data, start, end):
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
