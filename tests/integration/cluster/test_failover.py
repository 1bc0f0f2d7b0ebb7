"""Failovers under load: Sentinels change the primary while everybody asks and rows change all the time.

No answer is ever older than one that the same client has had, none is missing, none waits; and the fleet is whole again
by itself each time, which shows in that every host forgets a change long before its ordinary times would end.

The long form is part of `scripts/soak`.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from itertools import cycle
from pathlib import Path
from typing import Self

import pytest

from support.daemon import Daemon
from support.fleet import configuration, fill
from support.mariadb import MariaDB, private_directory
from support.priority import NEEDED, put_ahead
from support.process import free_port, wait_until
from support.valkey import Sentinels

pytestmark = [pytest.mark.servers, pytest.mark.root, pytest.mark.timeout(3600)]

ROUNDS = int(os.environ.get("MAILMAPD_FAILOVER_ROUNDS", "1"))
FOLLOWER, READERS = "mx1", ("mx2", "mx3")
KEYS = [f"u{number}@example.com" for number in range(40)]
MARK = "mark@example.com"
TABLES = dict.fromkeys(("alias", "mark"), "SELECT goto FROM alias WHERE address = '%s'")
ORDINARY = '[table.alias.cache]\nttl = "3s"\n'  # the other table has five minutes
SLOW = 1.0  # seconds: the shortest deadline towards the server between the hosts
REST = (
    20.0  # seconds: more than the ordinary times of the first table, less than those of the second
)
PAUSE = 0.005  # seconds between two questions of a client, and between two changes


class Rows:
    """Rows whose values count up; knows what each may be."""

    def __init__(self, database: MariaDB) -> None:
        self.latest = dict.fromkeys([*KEYS, MARK], 0)
        self._connection = database.connect("t")
        self._changing = threading.Lock()
        values = ", ".join(f"('{key}', '0', 'example.com')" for key in self.latest)
        database.run_sql(f"INSERT INTO t.alias VALUES {values}")

    def change(self, key: str) -> int:
        """Change one row; return its new value."""
        self.latest[key] += 1
        with self._changing, self._connection.cursor() as cursor:
            change = "UPDATE alias SET goto = %s WHERE address = %s"
            cursor.execute(change, (str(self.latest[key]), key))
        return self.latest[key]

    def close(self) -> None:
        """End the connection."""
        self._connection.close()

    @contextmanager
    def changing(self, keys: Sequence[str]) -> Iterator[None]:
        """Change one of these rows after the other until the end of the block."""
        stopping = threading.Event()

        def run() -> None:
            for key in cycle(keys):
                if stopping.wait(PAUSE):
                    break
                self.change(key)

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield
        finally:
            stopping.set()
            thread.join()


class Clients:
    """Two clients of each host, which ask in turn from `with` to its end, in a thread of their own."""

    def __init__(self, rows: Rows, paths: dict[str, str]) -> None:
        self.asked = 0
        self.slow: list[float] = []
        self.wrong: list[str] = []
        self._rows = rows
        self._paths = paths
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        put_ahead(threading.get_native_id())
        with asyncio.Runner(debug=False) as runner:
            runner.run(self._all())

    async def _all(self) -> None:
        async with asyncio.TaskGroup() as group:
            for host, path in self._paths.items():
                for first in (0, 20):
                    group.create_task(self._client(host, path, first))

    async def _client(self, host: str, path: str, place: int) -> None:
        seen = dict.fromkeys(KEYS, 0)
        reader, writer = await asyncio.open_unix_connection(path)
        while not self._stopping.is_set():
            place += 1
            key = KEYS[place % len(KEYS)]
            began = time.monotonic()
            writer.write(b"%d:alias %b," % (len("alias ") + len(key), key.encode()))
            size = await reader.readuntil(b":")
            reply = await reader.readexactly(int(size[:-1]) + 1)
            took = time.monotonic() - began
            self.asked += 1
            if took > SLOW:
                self.slow.append(took)
            word, _, value = reply[:-1].partition(b" ")
            if word != b"OK" or not seen[key] <= int(value) <= self._rows.latest[key]:
                self.wrong.append(f"{host} {key} {reply!r} after {seen[key]}")
            else:
                seen[key] = int(value)
            await asyncio.sleep(PAUSE)
        writer.close()


class Hosts:
    """Three daemons behind the Sentinels; the first one follows the database."""

    def __init__(self, database: MariaDB, sentinels: Sentinels, folder: Path) -> None:
        listed = ", ".join(f'"127.0.0.1:{port}"' for port in sentinels.ports)
        self.daemons: dict[str, Daemon] = {}
        for name in (FOLLOWER, *READERS):
            own = folder / name
            own.mkdir()
            (own / "secret").write_text("follow it")
            follow = 'follow = "no"'
            if name == FOLLOWER:
                follow = 'follow = "yes"\nuser = "replica"\npassword_file = "secret"'
            cluster = (
                f"[database.mail.changes]\n{follow}\n"
                f'[cluster]\nsentinels = [{listed}]\nservice = "mail"\nhost = "{name}"\n{ORDINARY}'
            )
            text = configuration(own, f'"unix:{database.socket}"', TABLES, cluster)
            http = f'[listen]\nhttp = "127.0.0.1:{free_port()}"\n'
            self.daemons[name] = Daemon(own, text.replace("[listen]\n", http))

    def gaps(self) -> dict[str, float]:
        """Return how often each host has missed something."""
        return {name: daemon.stats()["cluster"]["gaps"] for name, daemon in self.daemons.items()}

    def are_whole(self) -> bool:
        """Tell whether all read the stream, and those that follow nothing keep their tables for long."""
        found = {name: daemon.stats()["cluster"] for name, daemon in self.daemons.items()}
        return all(cluster["up"] for cluster in found.values()) and all(
            len(found[name]["watched"]["mail"]) == len(TABLES) for name in READERS
        )

    def doubt(self, gaps: dict[str, float]) -> bool:
        """Tell whether each host has missed something since it had missed so much."""
        return all(now > gaps[name] for name, now in self.gaps().items())

    def say(self, latest: dict[str, int]) -> bool:
        """Tell whether every host answers what the rows are."""
        return all(
            self._answer(name, "alias", key) == latest[key] for name in self.daemons for key in KEYS
        )

    def know(self, value: int) -> bool:
        """Tell whether every host knows this value, of which memory would not know for five minutes by itself."""
        return all(self._answer(name, "mark", MARK) == value for name in self.daemons)

    def _answer(self, name: str, table: str, key: str) -> int:
        with self.daemons[name].socketmap() as client:
            return int(client.ask(table, key.encode()).value)


def kill(sentinels: Sentinels) -> None:
    """End the primary at once; it comes back as what ran there before, and the Sentinels make it a replica."""
    old = sentinels.current()
    old.kill()
    wait_until(lambda: sentinels.current() is not old, "nobody has taken over")
    old.start()


def fail_over(sentinels: Sentinels) -> None:
    """Change the primary on purpose."""
    old = sentinels.current()
    wait_until(sentinels.fail_over, "no failover begins")
    wait_until(lambda: sentinels.current() is not old, "nobody has taken over")


def freeze(sentinels: Sentinels) -> None:
    """Stop the primary in the middle, and let it go on when another one has taken over."""
    old = sentinels.current()
    old.pause()
    wait_until(lambda: sentinels.current() is not old, "nobody has taken over")
    old.resume()


EVENTS: tuple[Callable[[Sentinels], None], ...] = (kill, fail_over, freeze)


def test_under_load(mariadb: MariaDB) -> None:
    """The primary is killed, changed and stopped: no answer is wrong, none is slow, and the fleet is whole after it."""
    fill(mariadb)
    with ExitStack() as stack:
        rows = stack.enter_context(closing(Rows(mariadb)))
        folder = stack.enter_context(private_directory())
        sentinels = stack.enter_context(Sentinels(folder, replicas=2))
        sentinels.put_ahead(NEEDED)  # they judge by the clock, and clients take all there is
        hosts = Hosts(mariadb, sentinels, folder)
        for daemon in hosts.daemons.values():
            stack.enter_context(daemon)
            put_ahead(daemon.process.pid)
        put_ahead(mariadb.process.pid, NEEDED)
        wait_until(hosts.are_whole, "nobody vouches for changes")
        paths = {name: str(daemon.directory / "s") for name, daemon in hosts.daemons.items()}
        clients = stack.enter_context(Clients(rows, paths))
        for event in EVENTS * ROUNDS:
            name, asked, gaps = event.__name__, clients.asked, hosts.gaps()
            with rows.changing(KEYS[::2]):
                with rows.changing(KEYS[1::2]):
                    event(sentinels)
                    wait_until(lambda gaps=gaps: hosts.doubt(gaps), f"{name}: a gap is not seen")  # type: ignore[misc]
                # What changed last, changed while nobody could be told.
                wait_until(hosts.are_whole, f"{name}: the fleet is not whole again")
            wait_until(lambda: hosts.say(rows.latest), f"{name}: an answer stays outdated", REST)
            assert hosts.know(rows.latest[MARK])
            value = rows.change(MARK)
            wait_until(lambda value=value: hosts.know(value), f"{name}: a change is not told", REST)  # type: ignore[misc]
            assert clients.asked > asked
        print(f"{clients.asked} lookups, {sum(rows.latest.values())} changes")
        assert clients.wrong == []
        assert clients.slow == []
