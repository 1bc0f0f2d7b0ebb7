from __future__ import annotations

import asyncio
from functools import partial

from mailmapd.sockets.turns import Turns
from support.polling import until


async def test_nobody_is_kept_waiting_by_those_who_come_anew() -> None:
    """New clients without end keep nobody from asking again."""
    turns, taken = Turns(1000.0, 1), list[str]()

    def come_anew() -> None:
        taken.append("new")
        turns.ask(come_anew, first=True)

    for _ in range(50):
        turns.ask(come_anew, first=True)
    await asyncio.sleep(0)
    for number in range(3):
        turns.ask(partial(taken.append, f"again {number}"), first=False)
    await until(lambda: "again 2" in taken)
    turns.close()
    begun = taken.index("again 0")
    assert [word for word in taken[begun:] if word != "new"] == ["again 0", "again 1", "again 2"]
    assert taken[begun + 1] == taken[begun + 3] == "new"
    assert taken[begun + 2] == "again 1"


async def test_peers_take_turns() -> None:
    """However many clients a peer has, another one waits for a single of them."""
    turns, taken = Turns(1000.0, 1), list[int]()
    for _ in range(50):
        turns.ask(partial(taken.append, 1), first=True, peer=1)
    turns.ask(partial(taken.append, 2), first=True, peer=2)
    turns.ask(partial(taken.append, 2), first=True, peer=2)
    await until(lambda: taken.count(2) == 2)
    turns.close()
    assert taken[:5].count(2) == 2
