"""A host that comes back, or is new, with a file: what was written down is as good as what has been said since."""

from __future__ import annotations

import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from mailmapd.control.client import ControlClient
from support.daemon import Daemon
from support.fleet import configuration, fill
from support.mariadb import MariaDB, private_directory
from support.process import ServerFailed, free_port, wait_until
from support.valkey import Valkey

pytestmark = [pytest.mark.servers, pytest.mark.root]

TABLES = {"alias": "SELECT goto FROM alias WHERE address = '%s'"}
TTL = 1.0
LONG = 3600.0
A, B = b"a@example.com", b"b@example.com"


class Fleet:
    """A follower, and hosts that read; ordinary times are so short that whatever is remembered is believed for long."""

    def __init__(self, database: MariaDB, valkey: Valkey, folder: Path, stack: ExitStack) -> None:
        self.database = database
        self.valkey = valkey
        self._folder = folder
        self.hosts = {name: self._daemon(name) for name in ("mx1", "mx2", "mx3")}
        for name in ("mx1", "mx2"):
            stack.enter_context(self.hosts[name])
        stack.push(self.hosts["mx3"])  # started later
        self.watched("mx2")

    def _daemon(self, name: str) -> Daemon:
        folder = self._folder / name
        (folder / "state").mkdir(parents=True)
        (folder / "secret").write_text("follow it")
        follow = (
            'follow = "yes"\nuser = "replica"\npassword_file = "secret"'
            if name == "mx1"
            else 'follow = "no"'
        )
        more = (
            f'[database.mail.changes]\n{follow}\n[cluster]\nurl = "{self.valkey.url}"\n'
            f'host = "{name}"\n[state]\ndirectory = "state"\nsave_interval = "1s"\n'
            f"[cache]\nttl = {TTL}\nnegative_ttl = {TTL}\n"
        )
        text = configuration(folder, f'"unix:{self.database.socket}"', TABLES, more)
        http = f'[listen]\nhttp = "127.0.0.1:{free_port()}"\n'
        return Daemon(folder, text.replace("[listen]\n", http))

    def watched(self, name: str) -> None:
        """Wait until a host keeps its tables for long."""
        metrics = self.hosts[name].metrics
        wait_until(
            lambda: metrics().get('mailmapd_cluster_watched_tables{database="mail"}') == 1,
            f"{name} watches nothing",
        )

    def ask(self, name: str, key: bytes) -> bytes:
        """Return what a host answers."""
        with self.hosts[name].socketmap() as client:
            return client.ask("alias", key).value

    def change(self, value: str) -> None:
        """Change where the mail of A goes."""
        self.database.run_sql("UPDATE t.alias SET goto = %s WHERE address = 'a@example.com'", value)

    def asks(self, name: str, key: bytes) -> tuple[bytes, bool]:
        """Return what a host answers, and whether it has asked the database for it."""
        before = self._selects(name)
        value = self.ask(name, key)
        return value, self._selects(name) > before

    def _selects(self, name: str) -> float:
        metrics = self.hosts[name].metrics()
        queries = "mailmapd_database_queries_total{"
        return sum(value for key, value in metrics.items() if key.startswith(queries))

    def believes(self, name: str, key: bytes, seconds: float = 60.0) -> None:
        """Wait until a host keeps what it remembers of a key for long."""

        def is_fresh() -> bool:
            with ControlClient(str(self.hosts[name].directory / "c")) as client:
                held = client.look("alias", key)
            return held.age == "fresh" and held.fresh_for > LONG

        wait_until(is_fresh, f"{name} does not believe what it remembers", seconds)

    def begin_again(self, name: str) -> None:
        """Start a host, and wait until its ordinary times have passed, too."""
        began = time.monotonic()
        self.hosts[name].start()
        self.watched(name)
        time.sleep(max(0.0, began + 2 * TTL - time.monotonic()))


@pytest.fixture(scope="module")
def hosts(mariadb: MariaDB) -> Iterator[Fleet]:
    with ExitStack() as stack:
        folder = stack.enter_context(private_directory())
        fill(mariadb)
        valkey = stack.enter_context(Valkey(folder / "valkey"))
        yield Fleet(mariadb, valkey, folder, stack)


@pytest.fixture
def fleet(hosts: Fleet) -> Fleet:
    """The fleet, of which the second host remembers both keys."""
    hosts.change("one")
    hosts.watched("mx2")
    wait_until(lambda: hosts.ask("mx2", A) == b"one", "the change is not heard of")
    assert hosts.ask("mx2", B) == b"two"
    # Once more behind the fence
    wait_until(lambda: hosts.asks("mx2", A) == (b"one", False), "the change does not end")
    return hosts


def test_what_changed_while_it_was_away(fleet: Fleet) -> None:
    """A host that was killed answers as before without asking; but what was changed since the file it asks for."""
    host = fleet.hosts["mx2"]
    saved, began = host.directory / "state" / "cache", time.time()
    wait_until(lambda: saved.exists() and saved.stat().st_mtime > began + 0.1, "nothing is saved")
    host.process.stop(signal.SIGKILL)
    fleet.change("new")
    fleet.begin_again("mx2")
    fleet.believes("mx2", B)
    assert fleet.asks("mx2", B) == (b"two", False)
    assert fleet.asks("mx2", A) == (b"new", True)


def test_follower_that_was_away(fleet: Fleet) -> None:
    """A host that follows the log itself goes on from there: what it knew is believed, and what changed is new."""
    assert (fleet.ask("mx1", A), fleet.ask("mx1", B)) == (b"one", b"two")
    fleet.believes("mx1", B)
    assert fleet.hosts["mx1"].stop() == 0
    fleet.change("new")
    fleet.hosts["mx1"].start()
    fleet.believes("mx1", B)
    assert fleet.ask("mx1", A) == b"new"


def test_reload(fleet: Fleet) -> None:
    """A reload leaves what is known as it is, where the follower's word has not run out meanwhile."""
    for attempt in range(3):
        fleet.watched("mx2")
        assert fleet.ask("mx2", A) == b"one"
        assert fleet.ask("mx2", B) == b"two"
        fleet.believes("mx2", B)
        done = fleet.hosts["mx2"].command("reload")
        assert done.returncode == 0, done.stderr
        try:
            fleet.believes("mx2", B, seconds=60.0 if attempt == 2 else 10.0)
            break
        except ServerFailed:  # a busy machine may let it run out
            if attempt == 2:
                raise
    time.sleep(2 * TTL)
    assert fleet.asks("mx2", B) == (b"two", False)
    assert fleet.asks("mx2", A) == (b"one", False)


def test_file_of_another_host(fleet: Fleet) -> None:
    """A new host begins with the file of one that asks the same, and with what was said since that was written."""
    assert fleet.hosts["mx2"].stop() == 0
    fleet.change("new")
    here, there = (fleet.hosts[name].directory / "state" / "cache" for name in ("mx2", "mx3"))
    shutil.copy(here, there)
    fleet.begin_again("mx3")
    fleet.believes("mx3", B)
    assert fleet.asks("mx3", B) == (b"two", False)
    assert fleet.asks("mx3", A) == (b"new", True)
    assert fleet.hosts["mx3"].stop() == 0
    fleet.hosts["mx2"].start()


def test_file_of_a_follower(fleet: Fleet) -> None:
    """So it does with the file of a host that follows the log itself, and goes on."""
    assert (fleet.ask("mx1", A), fleet.ask("mx1", B)) == (b"one", b"two")
    fleet.believes("mx1", B)
    here, there = (fleet.hosts[name].directory / "state" / "cache" for name in ("mx1", "mx3"))
    began = time.time()
    wait_until(lambda: here.exists() and here.stat().st_mtime > began + 0.1, "nothing is saved")
    shutil.copy(here, there)
    fleet.change("new")
    fleet.begin_again("mx3")
    fleet.believes("mx3", B)
    assert fleet.asks("mx3", B) == (b"two", False)
    assert fleet.asks("mx3", A) == (b"new", True)
    assert fleet.hosts["mx3"].stop() == 0


@pytest.mark.parametrize("event", ["gap", "another follower", "another history"])
def test_what_may_have_been_missed(fleet: Fleet, event: str) -> None:
    """Where a change may have been missed while it was away, all that was written down is asked for."""
    assert fleet.hosts["mx2"].stop() == 0
    match event:
        case "gap":
            fleet.change("unheard")
            time.sleep(TTL)
            fleet.valkey.run("XTRIM", "mailmapd", "MAXLEN", "0")
        case "another follower":
            fleet.hosts["mx1"].stop()
            fleet.change("unheard")
            fleet.hosts["mx1"].start()
        case _:
            fleet.valkey.kill()
            fleet.change("unheard")
            fleet.valkey.start()
    fleet.begin_again("mx2")
    assert fleet.asks("mx2", B) == (b"two", True)
    assert fleet.asks("mx2", A) == (b"unheard", True)
