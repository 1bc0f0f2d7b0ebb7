"""The real daemon with a cache that is full from the start.

`python -m bench.filled_daemon CONFIG TABLE ENTRIES [--spread] [--forget FIRST]`.

Asking a database for a million rows would take a minute for each measurement. The entries are what the daemon itself
would have kept of the mailboxes' rows. With --spread they were stored at times all over the past, as in a daemon that
has run for long: some are about to be fetched anew, some about to expire; the variable SPREAD_SEED says how. The
longest stretch of processor time that went into anything between two turns of the event loop then stands, in seconds,
in the file `stretch` of the working directory.

With --forget, one entry after the other is invalidated, from that number on and `INVALIDATIONS` a second,
as by somebody who hears of as many row changes, while there is a file `forgetting` in the working
directory. How many were held and forgotten stands in the file `forgotten`.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import time
from pathlib import Path

from bench import mailboxes
from mailmapd.app import run
from mailmapd.app.daemon import Daemon
from mailmapd.engine.engine import Engine
from mailmapd.engine.invalidation import Invalidation
from mailmapd.engine.table import Table
from mailmapd.model import ResultSet

SETTLING = 3.0  # seconds in which a daemon that starts has more to do than to answer
BEAT = 0.001  # seconds
LOOK = 0.05  # seconds between two looks at the file that says whether to forget
STRETCH = "stretch"
FORGETTING, FORGOTTEN = "forgetting", "forgotten"
INVALIDATIONS = 10_000
"""Invalidations a second."""


def fill(table: Table, entries: int, spread: int | None) -> None:
    """Store the rows of the first `entries` mailboxes, with ages that the seed `spread` draws, if there is one."""
    now = time.monotonic()
    chance = random.Random(spread)
    lifetime = (
        0.0
        if spread is None
        else table.cache.settings.ttl * (1 - table.cache.settings.refresh_ahead)
    )
    for number in range(entries):
        address = mailboxes.address(number)
        payload = table.definition.payload(
            ResultSet(("maildir",), ((mailboxes.maildir(address).encode(),),))
        )
        if payload is not None:
            table.cache.store(address.encode(), payload, now - chance.random() * lifetime)


async def watch() -> None:
    """Write the longest stretch down whenever there is a longer one."""
    longest = 0.0
    await asyncio.sleep(SETTLING)
    while True:
        before = time.thread_time()
        await asyncio.sleep(BEAT)
        used = time.thread_time() - before
        if used > longest:
            longest = used
            Path(STRETCH).write_text(f"{longest}", encoding="utf-8")  # noqa: ASYNC240 (a few bytes, a few times)


async def forget(engine: Engine, table: str, number: int, entries: int) -> None:
    """Invalidate entries at the pace of `INVALIDATIONS`, while that is wanted, until none is left."""
    wanted, dropped = Path(FORGETTING), 0
    before = looked = time.monotonic()
    due, forgetting = 0.0, False
    while number < entries:
        await asyncio.sleep(BEAT)
        now = time.monotonic()
        passed, before = now - before, now
        if now - looked >= LOOK:  # seldom: files cost more than an invalidation
            looked = now
            forgetting = wanted.exists()  # noqa: ASYNC240 (a stat)
            Path(FORGOTTEN).write_text(f"{dropped}", encoding="utf-8")  # noqa: ASYNC240 (a few bytes)
        if not forgetting:
            continue
        due += passed * INVALIDATIONS
        while due >= 1 and number < entries:
            key = mailboxes.address(number).encode()
            dropped += engine.apply(Invalidation(table, frozenset({key})))
            number += 1
            due -= 1


def main() -> None:
    """Serve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config")
    parser.add_argument("table")
    parser.add_argument("entries", type=int)
    parser.add_argument("--spread", action="store_true")
    parser.add_argument("--forget", type=int, metavar="FIRST")
    wanted = parser.parse_args()

    class FilledDaemon(Daemon):
        async def run(self) -> None:
            seed = int(os.environ["SPREAD_SEED"]) if wanted.spread else None
            fill(self.engine.tables[wanted.table], wanted.entries, seed)
            beside = []
            if wanted.spread:
                beside.append(asyncio.create_task(watch()))
            if wanted.forget is not None:
                forgetting = forget(self.engine, wanted.table, wanted.forget, wanted.entries)
                beside.append(asyncio.create_task(forgetting))
            await super().run()
            for task in beside:
                task.cancel()

    run.serve(wanted.config, FilledDaemon)


if __name__ == "__main__":
    main()
