"""An origin in front of the database's: whatever the server between hosts says, whoever asks hears something."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from mailmapd.cluster.exchange import Question, Reply
from mailmapd.cluster.sealing import Sealer
from mailmapd.cluster.shared_origin import SharedOrigin
from mailmapd.engine.outcome import Failure

AWAY = Failure("the database is away")


class Alone:
    """An origin whose database is away."""

    patience = 0.0
    schema_error = ""

    def fetch(self, _: bytes, done: Any) -> None:
        """Say so."""
        done(AWAY)


@pytest.mark.parametrize("reply", [Reply(7), Reply(b"x", (7,)), Reply(b"x" * 99, (b"a",))])  # type: ignore[arg-type]
def test_odd_replies_while_the_database_is_away(reply: Reply) -> None:
    """A reply of any other form than ours stands in for nothing, and who asks is told that nobody could tell."""

    def ask(question: Question) -> None:
        question.answered(reply)

    table: Any = SimpleNamespace(
        origin=Alone(), definition=None, database=None, name="alias", watch=None
    )
    trust: Any = SimpleNamespace(may_ask=lambda *_: True, place=lambda _: None)
    exchange: Any = SimpleNamespace(is_open=True, ask=ask)
    origin = SharedOrigin(
        table, "digest", exchange=exchange, sealer=Sealer(b"k" * 32, "p:"), trust=trust
    )
    heard: list[object] = []
    origin.fetch(b"a@example.com", lambda known, _=None: heard.append(known))
    assert heard == [AWAY]
