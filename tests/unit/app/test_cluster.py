from __future__ import annotations

import sys
import time

import pytest

from mailmapd.app.cluster import Cluster
from mailmapd.changes.touched import Touched
from mailmapd.config.loader import parse_config
from mailmapd.engine.flush import FlushRequest
from mailmapd.engine.orders import FlushOrder, NoFleet
from mailmapd.plan.assembly import assemble, plan

ORDER = FlushOrder(FlushRequest(everything=True), {"all": True})


async def flush_here(_: FlushRequest, __: object) -> dict[str, int]:
    return {"alias": 3}


async def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extra the daemon serves, says what is missing, and a flush says that nobody was told."""
    monkeypatch.delitem(sys.modules, "mailmapd.cluster.bus", raising=False)
    monkeypatch.delitem(sys.modules, "mailmapd.cluster.server", raising=False)
    monkeypatch.setitem(sys.modules, "redis.asyncio", None)
    cluster = Cluster(time.monotonic, flush_here)
    assembled = assemble(plan(parse_config('[cluster]\nurl = "unix:/nowhere"', "/tmp/x.toml")))
    await cluster.begin(assembled)
    [problem] = cluster.problems()
    assert "its extra [cluster]" in problem
    report = await cluster.flush(ORDER)
    assert (report.dropped, report.failure) == ({"alias": 3}, problem)
    with pytest.raises(NoFleet):
        await cluster.members()
    await cluster.close()


async def test_alone() -> None:
    """Without [cluster] a flush is one of this host, and nobody can be waited for."""
    cluster = Cluster(time.monotonic, flush_here)
    await cluster.begin(assemble(plan(parse_config("", "/tmp/x.toml"))))
    assert (await cluster.flush(ORDER)).failure == ""
    assert cluster.state(None) is None
    with pytest.raises(NoFleet):
        await cluster.flush(FlushOrder(ORDER.request, ORDER.members, wait=1.0))


async def test_what_changes_before_it_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as a bus vouches for changes it is told them, also while it finds out what memory is good for."""
    cluster = Cluster(time.monotonic, flush_here)
    await cluster.begin(
        assemble(plan(parse_config('[cluster]\nurl = "unix:/nowhere"', "/tmp/x.toml")))
    )
    bus = cluster._bus
    assert bus is not None
    told: list[Touched] = []

    async def standing() -> None:
        cluster.touched(Touched(whole={"alias"}))

    monkeypatch.setattr(bus, "touched", told.append)
    monkeypatch.setattr(bus, "standing", standing)
    await cluster.begin(assemble(plan(parse_config("", "/tmp/x.toml"))))
    assert told == [Touched(whole={"alias"})]


async def test_followers_that_want_to_be_obeyed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The name that a stranger has written into the stream is shown as text."""
    cluster = Cluster(time.monotonic, flush_here)
    assembled = assemble(plan(parse_config('[cluster]\nurl = "unix:/nowhere"', "/tmp/x.toml")))
    await cluster.begin(assembled)
    monkeypatch.setattr("mailmapd.cluster.bus.Bus.followers", ["mx\x1b[2J\u202e"])
    state = cluster.state(assembled.plan.cluster)
    assert state is not None
    assert state["followers"] == ["mx\\x1b[2J\\u202e"]
    await cluster.close()
