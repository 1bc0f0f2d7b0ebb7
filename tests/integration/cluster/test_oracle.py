"""Random changes against concurrent lookups on every host: at rest each answer is what SQL says.

The long form is part of `scripts/soak`.
"""

from __future__ import annotations

import asyncio
import os
import random
from pathlib import Path

import pytest

from mailmapd.cluster import exchange, publisher, second_level
from mailmapd.cluster.exchange import Fill
from mailmapd.model import NOT_FOUND, Answer, Found
from support.fleet import SECOND_LEVEL, Host, fleet, make_host
from support.mariadb import MariaDB
from support.polling import until
from support.valkey import Valkey

pytestmark = [pytest.mark.servers, pytest.mark.root, pytest.mark.timeout(3600)]

CHANGES = int(os.environ.get("MAILMAPD_FLEET_CHANGES", "3000"))
NAMES = 60
EVICTED = 0.1  # of the keys that were asked for, at once
DOMAINS = ("example.com", "example.net", "example.org")


class Mutator:
    """Changes rows at random, and knows nothing of what anybody remembers."""

    def __init__(self, database: MariaDB, seed: int) -> None:
        self._random = random.Random(seed)
        self._connection = database.connect("t")

    def close(self) -> None:
        """End the connection."""
        self._connection.close()

    def change(self, count: int) -> None:
        """Make changes, a few to a transaction."""
        draw = self._random
        with self._connection.cursor() as cursor:
            while count > 0:
                cursor.execute("BEGIN")
                for _ in range(draw.randint(1, 4)):
                    count -= 1
                    address, domain = self._address()
                    match draw.randrange(4):
                        case 0:
                            sql = "DELETE FROM alias WHERE address = %s"
                            cursor.execute(sql, (address,))
                        case 1:
                            sql = "UPDATE IGNORE alias SET address = %s, domain = %s WHERE address = %s"
                            other, there = self._address()
                            cursor.execute(sql, (other, there, address))
                        case _:
                            sql = "REPLACE INTO alias VALUES (%s, %s, %s)"
                            cursor.execute(sql, (address, f"v{draw.randrange(10**6)}", domain))
                cursor.execute("COMMIT" if draw.random() < 0.95 else "ROLLBACK")

    def _address(self) -> tuple[str, str]:
        domain = self._random.choice(DOMAINS)
        return f"u{self._random.randrange(NAMES)}@{domain}", domain


def expected(database: MariaDB) -> dict[tuple[str, bytes], Answer]:
    """Return what SQL says of every key."""
    rows = dict(database.run_sql("SELECT address, goto FROM t.alias"))
    joined = "SELECT domain, GROUP_CONCAT(goto ORDER BY address) FROM t.alias GROUP BY domain"
    domains = dict(database.run_sql(joined))
    answers: dict[tuple[str, bytes], Answer] = {}
    for domain in DOMAINS:
        for number in range(NAMES):
            address = f"u{number}@{domain}"
            found = rows.get(address)
            answers["alias", address.encode()] = (
                NOT_FOUND if found is None else Found(found.encode())
            )
        whole = domains.get(domain)
        key = f"x@{domain}".encode()
        answers["of_domain", key] = NOT_FOUND if whole is None else Found(whole.encode())
    return answers


async def look_up(host: Host, seed: int, ended: asyncio.Event) -> int:
    """Ask at random until the changes have ended; return how often."""
    draw, asked = random.Random(seed), 0
    assert host.plan.cluster is not None
    while not ended.is_set():
        domain = draw.choice(DOMAINS)
        key = f"u{draw.randrange(NAMES)}@{domain}".encode()
        name = "of_domain" if draw.random() < 0.1 else "alias"
        await host.ask(name, key)
        asked += 1
        if host.plan.cluster.second_level and draw.random() < EVICTED:
            host.engine.tables[name].cache.drop(key)
        if asked % 20 == 0:
            await asyncio.sleep(0.001)
    return asked


def share_late(host: Host) -> None:
    """Let answers be shared some time after they were fetched, so that changes come in between."""
    fill, draw = host.second.exchange.fill, random.Random(host.name)

    def late(answer: Fill) -> None:
        asyncio.get_running_loop().call_later(draw.random() * 0.05, fill, answer)

    host.second.exchange.fill = late  # type: ignore[assignment, method-assign]


@pytest.mark.parametrize("more", ["", SECOND_LEVEL], ids=["alone", "second level"])
async def test_at_rest_all_is_true(
    database: MariaDB, valkey: Valkey, tmp_path: Path, more: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However changes and lookups fall together, no host is left with an answer that is not the database's.

    Nor is the second level: a host that starts with nothing when all is at rest finds there what is so.
    """
    asyncio.get_running_loop().set_debug(False)
    monkeypatch.setattr(exchange, "DEADLINE", 10.0)  # a busy machine makes nobody leave it aside
    if more:
        monkeypatch.setattr(second_level, "TOMBSTONE", 0.02)  # else next to nothing is shared
        monkeypatch.setattr(publisher, "APART", 0.05)  # so that much is known here and not told yet
    names = ["mx1", "mx2", "mx3", "mx4"]
    async with fleet(database, valkey.url, tmp_path, names, {"mx1", "mx2"}, more=more) as hosts:
        for host in hosts.values():
            await (host.shares() if more else host.watched())
            if more:
                share_late(host)
        mutator, ended = Mutator(database, 1), asyncio.Event()
        asking = [
            asyncio.create_task(look_up(host, number, ended))
            for number, host in enumerate(hosts.values())
        ]
        await asyncio.to_thread(mutator.change, CHANGES)
        ended.set()
        asked = sum(await asyncio.gather(*asking))
        mutator.close()
        assert asked > CHANGES / 10
        # Until all of it is told: a mark comes after everything else.
        for host in hosts.values():
            await host.ask("alias", b"mark@example.com")
        database.run_sql("INSERT INTO t.alias VALUES ('mark@example.com', 'here', 'elsewhere')")
        for host in hosts.values():
            await until(lambda host=host: not host.held("alias", b"mark@example.com"))  # type: ignore[misc]
        await asyncio.sleep(0.2)
        assert all(host.is_watched() for host in hosts.values())
        assert [host.bus.gaps for host in hosts.values()] == [0] * len(names)
        answers = expected(database)
        for host in hosts.values():
            wrong = [
                (where, answer, found)
                for where, answer in answers.items()
                if (found := await host.ask(*where)) != answer
            ]
            assert wrong == [], host.name
            held = sum(host.fresh("alias", key) > 3600 for name, key in answers if name == "alias")
            assert held == NAMES * len(DOMAINS), (
                "answers are kept for long, so that this shows something"
            )
        if not more:
            return
        counts = [host.second.counts() for host in hosts.values()]
        print([dict(count) for count in counts])
        assert sum(count["hit"] for count in counts) > CHANGES / 30
        assert sum(count["late"] + count["garbage"] + count["doubts"] for count in counts) == 0
        cold = make_host("mx5", tmp_path, database, valkey.url, follows=False, more=more)
        cold.start()
        try:
            await cold.shares()
            for where, answer in answers.items():
                assert await cold.ask(*where) == answer, where
            assert cold.second.counts()["hit"] > len(answers) / 2
        finally:
            await cold.close()
