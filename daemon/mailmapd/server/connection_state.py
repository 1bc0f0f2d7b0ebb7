"""The state of a connection: always one of these, and what leads from one to another.

    quiet     every query is answered, and no byte waits: the next reply may be recalled
    part      the beginning of a query is here
    turn      more queries are here; other connections have their turn first
    waiting   a query waits for its database, or its reply of many parts is being written
    stalled   the client does not take its replies, so no more are made
    leaving   quiet, and the next query ends the connection instead of being answered
    closed    nothing is read or answered any more

and events lead from one to another:

    bytes arrive             quiet, part             answer
                             turn, waiting, stalled  hold them, and stay
                             leaving                 closed
    the turn has come        turn                    answer
    the reply is here        waiting                 answer
    no replies are taken     quiet, part, leaving    stalled; from turn and waiting it follows later
    replies are taken again  stalled                 answer
    drain                    quiet                   leaving; others come to rest there
    hang up                  leaving                 quiet; then the end of file follows
    end of file              quiet, part, leaving    closed; others come to rest there
    violation, defect, abort, client gone            closed

*Answer* means: while the client takes replies, answer what is here. It leads to *waiting*, to
*stalled*, to *turn* after `connection.TURN` queries, or, when no whole query is left, to *part* or to rest.
The connection rests in *quiet*; in *leaving* or *closed* if that was said before.
"""

from __future__ import annotations

from enum import Enum


class State(Enum):
    """See the module."""

    QUIET = "quiet"
    PART = "part"
    TURN = "turn"
    WAITING = "waiting"
    STALLED = "stalled"
    LEAVING = "leaving"
    CLOSED = "closed"


AT_REST = (State.QUIET, State.PART, State.LEAVING)
"""The states in which nothing has to happen before the client sends more."""

BEHIND = (State.TURN, State.WAITING, State.STALLED)
"""The states in which bytes are held, because earlier queries are not answered yet."""
