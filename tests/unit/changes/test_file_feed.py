from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Any, cast

from mailmapd.changes.file_feed import FileFeed


class SlowConnection:
    """A connection that is in the middle of a statement until `go_on` is set, and notes when it is closed."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self.go_on = threading.Event()
        self.busy = False
        self.closed_while_busy: bool | None = None

    def execute(self, _: str) -> SlowConnection:
        """Take until `go_on`."""
        self.busy = True
        self.asked.set()
        assert self.go_on.wait(10)
        self.busy = False
        return self

    def fetchall(self) -> list[tuple[int]]:
        """Return a version."""
        return [(1,)]

    def close(self) -> None:
        """Note that."""
        self.closed_while_busy = self.busy


async def test_no_connection_is_closed_while_a_thread_uses_it(tmp_path: Path) -> None:
    """A look that is given up because the feed ends goes on in its thread; SQLite would crash if it were closed."""
    file = tmp_path / "mail.sqlite"
    file.touch()
    connection = SlowConnection()
    feed = FileFeed(
        str(file),
        {},
        forget=lambda _: None,
        distrust=lambda _: None,
        changed=lambda: None,
        clock=time.monotonic,
    )
    found = file.stat()
    feed._state = (found.st_dev, found.st_ino, 0)
    feed._connection = cast("Any", connection)
    feed.start()
    await asyncio.to_thread(connection.asked.wait, 10)
    ending = asyncio.create_task(feed.close())
    await asyncio.sleep(0.05)
    connection.go_on.set()
    await ending
    assert connection.closed_while_busy is False
    assert feed._connection is None


async def test_a_defect_ends_what_is_believed(tmp_path: Path) -> None:
    """Where forgetting fails by a fault of ours, the file is not followed any more, and what is known is distrusted."""
    file = tmp_path / "mail.sqlite"
    distrusted = asyncio.Event()

    def broken(_: object) -> None:
        raise ZeroDivisionError

    feed = FileFeed(
        str(file),
        {},
        forget=broken,
        distrust=lambda _: distrusted.set(),
        changed=lambda: None,
        clock=time.monotonic,
    )
    with closing(sqlite3.connect(file)) as writer:
        writer.execute("CREATE TABLE alias (address)")
        writer.commit()
        found = file.stat()
        feed._state = (found.st_dev, found.st_ino, -1)  # another version than there is now
        feed.alive = True
        feed.start()
        try:
            await asyncio.wait_for(distrusted.wait(), 5)
            assert not feed.alive
        finally:
            await feed.close()
