"""Turns of reading a log: lookups have their turn after a fraction of a millisecond, whatever comes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from types import SimpleNamespace
from typing import cast

import pytest

from mailmapd.databases.mysql.binlog import stream
from mailmapd.databases.mysql.binlog.events import Event, RowsChanged
from mailmapd.databases.mysql.binlog.reader import BinlogReader
from mailmapd.databases.mysql.binlog.stream import BinlogStream
from mailmapd.databases.mysql.connection import MysqlConnection
from support.binlog_events import event
from unit.databases.mysql.test_binlog import TINY, tiny_rows
from unit.databases.mysql.test_portions import Transport

ROWS = 1_000
READING, TELLING = 0.000_007, 0.000_014  # seconds for a row, as measured with a narrow table
LONGEST = 0.000_35  # seconds of one turn: what lookups may wait is twice as long as without


async def test_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever else is ready has a turn again and again, and meanwhile the server is held up."""
    clock = [0.0]
    heard: list[int] = []

    def hear(events: list[Event]) -> None:
        rows = sum([len(logged.changes) for logged in events if isinstance(logged, RowsChanged)])
        heard.append(rows)
        clock[0] += rows * TELLING

    class Reader(BinlogReader):
        def events(self) -> Iterator[Event | None]:
            for logged in super().events():
                if isinstance(logged, RowsChanged):
                    clock[0] += len(logged.changes) * READING
                yield logged

    monkeypatch.setattr(stream, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    transport = Transport()
    connection = SimpleNamespace(
        hand_over=lambda _: SimpleNamespace(
            write=lambda _: None,
            pause_reading=transport.pause_reading,
            resume_reading=transport.resume_reading,
            is_closing=transport.is_closing,
            abort=transport.abort,
        )
    )
    reader = Reader(lambda _schema, _table, _count: (0,), checksum=False)
    following = BinlogStream(reader, "db1", hear, lambda _: None)
    following.begin(cast("MysqlConnection", connection), b"")
    turns, before = [], clock[0]
    logged = event(19, TINY) + tiny_rows(ROWS)
    following.get_buffer(-1)[: len(logged)] = logged
    following.buffer_updated(len(logged))
    while sum(heard) < ROWS:
        assert not transport.reads
        turns.append(clock[0] - before)
        before = clock[0]
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert transport.reads
    assert sum(heard) == ROWS
    assert max(turns) <= LONGEST
    assert len(turns) >= ROWS * (READING + TELLING) / LONGEST
