"""The catalog as a feed keeps it: who reads what of its server, from DDL to DDL."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from mailmapd.changes.catalog import ask_for_catalog
from mailmapd.changes.readers import Readers, find_readers
from mailmapd.changes.selection import Selection
from mailmapd.changes.touched import Touched
from mailmapd.databases.mysql.binlog.session import Session
from mailmapd.engine.definition import Definition


class KeptCatalog:
    """Keeps who reads what, and the selection by it. `alterations` counts the DDL that was heard of."""

    def __init__(self, definitions: Mapping[str, Definition], schema: str) -> None:
        self.readers = Readers()
        self.selection = Selection(self.readers)
        self.alterations = 0
        self._definitions = definitions
        self._schema = schema
        self._altered = asyncio.Event()
        self._reading = self._read = (
            0  # the alterations that a reading will know of, and the last one knew of
        )

    @property
    def is_old(self) -> bool:
        """Return whether there was DDL that has not been read yet."""
        return not self.has_read(self.alterations)

    def has_read(self, number: int) -> bool:
        """Return whether the catalog was read since `alterations` was this number."""
        return self._read >= number

    async def find(self, session: Session) -> Readers:
        """Return who reads what, as the server says now. Raises DatabaseError."""
        catalog = await ask_for_catalog(session)
        return await asyncio.to_thread(find_readers, self._definitions, catalog, self._schema)

    def begin(self, readers: Readers) -> Touched:
        """Take what was found when a stream begins; return tables that were read in another way before."""
        before, self.readers = self.readers, readers
        self.selection = Selection(readers)
        self._read = self.alterations
        self._altered.clear()
        return _read_otherwise(before, readers) if before.followed else Touched()

    def alter(self) -> None:
        """Hear of DDL."""
        self.alterations += 1
        self._altered.set()

    async def wait_until_altered(self) -> None:
        """Return when there is DDL that the next reading finds."""
        await self._altered.wait()
        self._altered.clear()
        self._reading = self.alterations

    async def read_again(self, session: Session) -> Touched:
        """Take the catalog as it is after DDL; return tables that are read in another way, or not known any more.

        Raises DatabaseError.
        """
        self.selection.begin_reading()
        before = self.readers
        self.readers = await self.find(session)
        self.selection = self.selection.with_readers(self.readers)
        return _read_otherwise(before, self.readers)

    def be_read(self) -> None:
        """Know of what was altered before the reading began: all that follows from it is forgotten, or pending."""
        self._read = self._reading

    async def unheard(self, session: Session, table: str) -> str:
        """Return in which way the server says something else of a table than is known here; nothing if in none.

        Raises DatabaseError.
        """
        known = self.readers
        now = await self.find(session)
        if table in now.not_followed:
            return f"{now.not_followed[table]}, and no log says since when"
        if now.parents_of(table) != known.parents_of(table):
            return "a foreign key changes its rows, which the log does not say"
        if known.same(now, table):
            return ""
        return "what it reads was altered, which the log does not say"


def _read_otherwise(before: Readers, now: Readers) -> Touched:
    """Return the tables that are read in another way, or not known any more."""
    touched = Touched()
    for table in before.followed | now.followed:
        if not before.same(now, table):
            touched.add_table(table)
    return touched
