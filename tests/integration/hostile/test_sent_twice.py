"""What may have written is sent once, wherever the connection ends."""

from __future__ import annotations

import pytest

from mailmapd.databases.mysql.database import MysqlDatabase
from mailmapd.databases.settings import MysqlSettings
from mailmapd.errors import DatabaseUnavailable
from mailmapd.template.mysql_table import MysqlTable
from mailmapd.template.statement import Statement
from support.hostile_database import OK, Behaviour, Peer, hostile_database

READ = MysqlTable.compile("reads", b"SELECT a FROM b WHERE c = '%s'").statement(b"k")
CALL = MysqlTable.compile("calls", b"/* counts */ CALL f('%s')").statement(b"k")
FUNCTION = MysqlTable.compile("function", b"SELECT counted('%s')").statement(b"k")


def cutting(received: list[bytes], ending: bytes = b"", refuses: bytes = b"") -> Behaviour:
    """Make a server that ends the connection on each query, after a last packet if there is one; it
    refuses one setting.
    """

    async def behave(peer: Peer) -> None:
        await peer.log_in()
        while True:
            text = await peer.command(settings=False)
            if refuses and text.startswith(refuses):
                await peer.send(b"\xff\x28\x04#42000no such setting")
            elif text.startswith(b"SET "):
                await peer.send(OK)
            else:
                received.append(text)
                if ending:
                    await peer.send(ending)
                return

    return behave


async def sent(
    statement: Statement, behave: Behaviour, received: list[bytes], **settings: bool
) -> int:
    async with hostile_database(behave) as port:
        made = MysqlSettings(hosts=(f"127.0.0.1:{port}",), user="u", password="p", **settings)  # type: ignore[arg-type]
        database = MysqlDatabase("mail", made, probe_interval=60.0)
        with pytest.raises(DatabaseUnavailable):
            await database.fetch(statement)
        await database.close()
    return len(received)


SHUTDOWN = b"\xff\x1d\x04#08S01Server shutdown in progress"


@pytest.mark.parametrize("ending", [b"", SHUTDOWN], ids=["cut", "shutdown"])
@pytest.mark.parametrize(
    ("statement", "read_only", "refuses", "times"),
    [
        (READ, True, b"", 2),
        (READ, False, b"", 2),
        (CALL, True, b"", 2),
        (CALL, False, b"", 1),
        (FUNCTION, False, b"", 1),
        (CALL, True, b"SET SESSION TRANSACTION", 1),
    ],
    ids=["read", "read, may write", "call", "call, may write", "function", "no read-only session"],
)
async def test_once(
    statement: Statement, read_only: bool, refuses: bytes, times: int, ending: bytes
) -> None:
    """A query whose connection ends is sent again if it can have changed nothing, and never otherwise."""
    received: list[bytes] = []
    behave = cutting(received, ending, refuses)
    assert await sent(statement, behave, received, read_only=read_only) == times
