"""The fleet in words."""

from __future__ import annotations

import pytest

from mailmapd.stats.figures import NOTHING
from mailmapd.stats.fleet import HEADS, SILENT, rows
from support.busy_host import make_view


@pytest.mark.parametrize("silence", [0.0, SILENT + 1])
def test_follows_while_it_is_heard_of(silence: float) -> None:
    """A host of which nothing is heard any more, as after kill -9, follows nothing."""
    view = make_view(bad=False)
    name = next(name for name, member in view.members.items() if member["follows"])
    members = {name: view.members[name] | {"at": view.snapshot["time"] - silence, "left": False}}
    [shown] = rows(view.snapshot, members)
    assert (shown[HEADS.index("Follows")].text == NOTHING) == bool(silence)
