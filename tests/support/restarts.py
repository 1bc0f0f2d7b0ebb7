"""A daemon's memory over several runs, without its sockets: caches, state file, and what follows the database.

async with Run(folder) as run:          # loads what the run before has saved
    await run.known()                   # until changes are known
    await run.ask(b"a@example.com")
"""

from __future__ import annotations

import time
from pathlib import Path
from types import TracebackType
from typing import Self

from mailmapd.app.changes import Changes
from mailmapd.changes.following import FollowedDatabase
from mailmapd.changes.touched import Touched
from mailmapd.config.loader import load_config
from mailmapd.engine.table import Table
from mailmapd.model import Answer
from mailmapd.plan.assembly import Assembled, assemble, plan
from mailmapd.state.warm_start import WarmStart
from support.followed import PASSWORD, REPLICA
from support.polling import until

DAY = 86400.0
ORDINARY = 300.0


class Alone:
    """Other hosts that nothing is told to: there are none."""

    def touched(self, touched: Touched) -> None:
        """Tell nobody."""

    def changed(self) -> None:
        """Tell nobody."""


def write_config(folder: Path, *hosts: Path, more: str = "") -> None:
    """Write a configuration with one map, `alias`, whose state is kept beside it."""
    (folder / "state").mkdir(exist_ok=True)
    (folder / "password").write_text(PASSWORD)
    (folder / "password").chmod(0o600)
    listed = ", ".join(f'"unix:{host}"' for host in hosts)
    (folder / "mailmapd.toml").write_text(
        f'[listen]\nsocketmap = ["unix:{folder}/s"]\n[state]\ndirectory = "{folder}/state"\n'
        f'[database.mail]\ndriver = "mysql"\nhosts = [{listed}]\n{more}user = "mail"\npassword = "p"\ndbname = "t"\n'
        f'[database.mail.changes]\nuser = "{REPLICA}"\npassword_file = "password"\naudit = 0\n'
        '[table.alias]\ndatabase = "mail"\nquery = "SELECT goto FROM alias WHERE address = \'%s\'"\n'
        '[map.alias]\ntables = ["alias"]\n'
    )


class Run:
    """One run on a folder that `write_config` has made; it saves its memory at its end."""

    def __init__(self, folder: Path) -> None:
        self._config = folder / "mailmapd.toml"
        self._changes = Changes(time.monotonic, Alone())
        self.assembled: Assembled = assemble(plan(load_config(str(self._config))))
        self.warm_start = WarmStart(lambda: self.assembled, time.monotonic, keep=self._changes.keep)

    async def __aenter__(self) -> Self:
        self.warm_start.begin()
        await self._changes.begin(self.assembled, await self.warm_start.loaded())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.warm_start.finish()
        await self._changes.close()
        await self.assembled.engine.close()

    async def reload(self) -> None:
        """Follow anew, as with a new configuration of the same tables."""
        await self._changes.begin(self.assembled)

    @property
    def database(self) -> FollowedDatabase:
        """Return what follows the database."""
        assert self._changes.following is not None
        return self._changes.following.databases["mail"]

    @property
    def table(self) -> Table:
        """Return the one table."""
        return self.assembled.engine.tables["alias"]

    async def known(self) -> None:
        """Wait until changes are known."""
        await until(lambda: self.database.holds)

    async def settled(self) -> None:
        """Wait until all that the server shows is known, and forgotten for the last time."""
        await self.known()
        await self.database.catch_up()

    async def ask(self, key: bytes) -> Answer:
        """Return the answer of the map."""
        return (await self.assembled.engine.maps["alias"].answer(key))[0]

    def left(self, key: bytes) -> float:
        """Return for how many seconds what is in memory is good; nothing is for none."""
        entry = self.table.cache.peek(key)
        return 0.0 if entry is None else entry[1] - time.monotonic()
