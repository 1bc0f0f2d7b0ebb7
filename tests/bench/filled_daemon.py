"""The real daemon with a cache that is full from the start: `python -m bench.filled_daemon CONFIG TABLE ENTRIES [--spread]`.

Asking a database for a million rows would take a minute for each measurement. The entries are what the daemon itself would have kept of the
mailboxes' rows. With --spread they were stored at times all over the past, as in a daemon that has run for long: some are about to be
fetched anew, some about to expire.
"""

from __future__ import annotations

import argparse
import random
import time

from bench import mailboxes
from mailmapd.app import run
from mailmapd.app.daemon import Daemon
from mailmapd.engine.table import Table
from mailmapd.model import ResultSet


def fill(table: Table, entries: int, *, spread: bool) -> None:
    """Store the rows of the first `entries` mailboxes."""
    now = time.monotonic()
    chance = random.Random(1)
    lifetime = table.cache.settings.ttl * (1 - table.cache.settings.refresh_ahead) if spread else 0.0
    for number in range(entries):
        address = mailboxes.address(number)
        payload = table.definition.payload(ResultSet(("maildir",), ((mailboxes.maildir(address).encode(),),)))
        if payload is not None:
            table.cache.store(address.encode(), payload, now - chance.random() * lifetime)


def main() -> None:
    """Serve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config")
    parser.add_argument("table")
    parser.add_argument("entries", type=int)
    parser.add_argument("--spread", action="store_true")
    wanted = parser.parse_args()

    class FilledDaemon(Daemon):
        async def run(self) -> None:
            fill(self.engine.tables[wanted.table], wanted.entries, spread=wanted.spread)
            await super().run()

    run.serve(wanted.config, FilledDaemon)


if __name__ == "__main__":
    main()
