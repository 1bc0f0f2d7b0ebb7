from __future__ import annotations

import asyncio
from collections.abc import Iterator

from mailmapd.web.page import Page
from support.polling import until

INTERVAL = 0.05


class Counted:
    """A page whose text is the number of its making."""

    def __init__(self) -> None:
        self.made = 0

    def make(self) -> Iterator[bytes]:
        """Yield the number."""
        self.made += 1
        yield b"%d" % self.made
        yield from [b"." * (number == 0) for number in range(100)]


async def test_made_once_for_all_who_ask() -> None:
    """However many ask within an interval, the page is made once for them, at its end."""
    counted = Counted()
    page = Page(counted.make, INTERVAL)
    loop = asyncio.get_running_loop()
    begun = loop.time()
    assert await page.get() == b"1."
    assert await asyncio.gather(*[page.get() for _ in range(100)]) == [b"2."] * 100
    assert counted.made == 2
    assert loop.time() - begun >= INTERVAL


async def test_never_older_than_the_question() -> None:
    """Who asks while a page is being made gets the next one: some of this one was there before the question."""
    counted = Counted()
    page = Page(counted.make, INTERVAL)
    first = asyncio.get_running_loop().create_task(page.get())
    await until(lambda: counted.made == 1)
    assert await page.get() == b"2."
    assert await first == b"1."


async def test_others_have_their_turn_in_between() -> None:
    """Between two pieces of a page the loop does other things."""
    seen: list[int] = []

    def make() -> Iterator[bytes]:
        for _ in range(10):
            yield b"%d " % len(seen)

    async def count() -> None:
        while True:
            seen.append(1)
            await asyncio.sleep(0)

    counting = asyncio.get_running_loop().create_task(count())
    body = await Page(make).get()
    counting.cancel()
    assert int(body.split()[-1]) >= 9


async def test_one_who_leaves() -> None:
    """A client that leaves takes the page from nobody else."""
    page = Page(Counted().make, INTERVAL)
    await page.get()
    leaving, staying = (asyncio.get_running_loop().create_task(page.get()) for _ in range(2))
    await asyncio.sleep(0)
    leaving.cancel()
    assert await staying == b"2."
