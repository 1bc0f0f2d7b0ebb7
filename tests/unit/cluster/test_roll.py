from __future__ import annotations

from dataclasses import replace

from mailmapd.cluster.members import Member
from mailmapd.cluster.message import Codec
from mailmapd.cluster.roll import MOST_HOSTS, Roll
from support.clock import FakeClock

MEMBER = Member("run", "1.0", 1e9, "5-1", 7, "history", 0.5, None, "digest", ("mail",), 3, False)


def test_hosts_that_a_stranger_makes_up() -> None:
    """Whoever makes up hosts, and takes their records away again, keeps no memory; those that write are waited for."""
    roll = Roll("own", Codec(), FakeClock())
    real = {"own": MEMBER, "real": MEMBER}
    roll.take(real, written=True)
    roll.take(real | {"real": replace(MEMBER, lag=0.1)}, written=True)
    for cycle in range(5):
        made_up = {f"a{cycle}-{number}": MEMBER for number in range(1000)}
        roll.take(real | made_up, written=True)
        expected, _ = roll.take({}, written=True)
        assert len(expected) <= MOST_HOSTS
        assert "real" in expected
