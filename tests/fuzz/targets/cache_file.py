"""Any bytes as a cache file, and as the entries inside a sound one.

Records or a CacheFileError, and what is read can be written again.
"""

from __future__ import annotations

import contextlib
from io import BytesIO

from mailmapd.cache import ABSENCE
from mailmapd.state.cache_file import (
    DIGEST_SIZE,
    CacheFileError,
    CacheFileWriter,
    CacheRecord,
    TableHeader,
    blocks,
    decode_records,
    encode_record,
)
from mailmapd.state.cache_file import (
    check as check_file,
)


def _file(body: bytes) -> bytes:
    stream = BytesIO()
    writer = CacheFileWriter(stream, 1.0)
    writer.table(TableHeader(b"d" * DIGEST_SIZE, "alias"))
    writer.records([body])
    writer.finish()
    return stream.getvalue()


_RECORDS = b"".join(
    encode_record(CacheRecord(b"user@example.com", found, 1000.0))
    for found in (ABSENCE, b"example.com/user/", (b"a@example.com", b"b"))
)
SEEDS = (_file(_RECORDS), _file(b""), _RECORDS, b"mailmapd cache\n\1")
TOKENS = (b"mailmapd cache\n", b"\0\0\0\0", b"\1\0\0\0", b"\xff\xff\xff\xff", b"T", b"E", b"Z")


def check(data: bytes) -> None:
    for content in (data, _file(data)):
        stream = BytesIO(content)
        with contextlib.suppress(CacheFileError):
            check_file(stream)
            for block in blocks(stream):
                if isinstance(block, bytes):
                    assert b"".join(map(encode_record, decode_records(block))) == block
