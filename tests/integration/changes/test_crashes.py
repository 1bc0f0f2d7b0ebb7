"""A server that crashes with less than its log says, because it does not write down every commit at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from mailmapd.databases.settings import ChangesSettings
from mailmapd.model import Found
from support.followed import LOGGED, PASSWORD, REPLICA, grant_replication
from support.followed_engine import following
from support.mariadb import MariaDB, private_directory
from support.polling import until
from support.settled import is_settled

pytestmark = [pytest.mark.servers, pytest.mark.root]

CHANGES = ChangesSettings(follow="yes", user=REPLICA, password=PASSWORD, audit=0.0)
LATE = ("--innodb-flush-log-at-trx-commit=0", "--innodb-flush-log-at-timeout=1000")


async def test_lost_commits(tmp_path: Path) -> None:
    """What a server has logged and lost in a crash is believed no more when it is back."""
    with private_directory() as folder, MariaDB(folder, settings=(*LOGGED, *LATE)) as server:
        grant_replication(server)
        server.run_sql(
            "CREATE DATABASE t; CREATE TABLE t.alias (address VARCHAR(99) PRIMARY KEY, goto TEXT);"
            "INSERT INTO t.alias VALUES ('a', 'one'), ('b', 'one')"
        )
        server.grant("mail", "p", "t")
        server.restart()  # so that all of that is written down
        query = {"alias": "SELECT goto FROM alias WHERE address = '%s'"}
        async with following(server, tmp_path, CHANGES, query) as bench:
            await until(lambda: bench.database.lease.holds)
            server.run_sql("UPDATE t.alias SET goto = 'lost' WHERE address = 'a'")
            await bench.known("alias", b"a", Found(b"lost"))
            await until(lambda: is_settled(bench.database))
            assert await bench.ask("alias", b"a") == Found(b"lost")
            server.kill()
            server.start()
            [(goto,)] = server.run_sql("SELECT goto FROM t.alias WHERE address = 'a'")
            assert goto == "one"
            await until(lambda: bench.database.epoch == 2)
            assert await bench.ask("alias", b"a") == Found(b"one")
