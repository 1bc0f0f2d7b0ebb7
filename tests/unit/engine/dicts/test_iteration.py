from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from mailmapd.engine.dicts.definition import PostfixUserQuery
from mailmapd.engine.dicts.iteration import Iteration
from mailmapd.model import Row
from mailmapd.template.mysql_table import MysqlTable
from mailmapd.template.statement import Statement
from support.memory_database import MemoryDatabase

QUERY = PostfixUserQuery(MysqlTable.compile("users", b"SELECT username FROM mailbox"))


class Counting(MemoryDatabase):
    """Counts the streams that are open."""

    open = 0

    async def stream(
        self, statement: Statement, batch: int = 1000
    ) -> AsyncGenerator[tuple[tuple[str, ...], Sequence[Row]], None]:
        """Count while the rows are taken."""
        self.open += 1
        try:
            async with aclosing(super().stream(statement, batch)) as batches:
                async for item in batches:
                    yield item
        finally:
            self.open -= 1


async def test_stream_is_closed() -> None:
    """A listing that ends early, by its limit or because nobody wants the rest, leaves no stream open behind it."""
    database = Counting(
        "mail", lambda *_: [(b"user%d@example.com" % number,) for number in range(3000)]
    )
    iteration = Iteration("users", QUERY, database)
    assert [names async for names in iteration.users(b"", 2)] == [
        [b"user0@example.com", b"user1@example.com"]
    ]
    assert database.open == 0
    async with aclosing(iteration.users(b"", 0)) as listing:
        assert len(await anext(listing)) == 1000
        assert database.open == 1
    assert database.open == 0
