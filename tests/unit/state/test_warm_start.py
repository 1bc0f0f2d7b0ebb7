from __future__ import annotations

import asyncio
import logging
import os
import resource
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from mailmapd.cache import ABSENCE, TableCache
from mailmapd.config.loader import parse_config
from mailmapd.engine.flush import FlushRequest, flush
from mailmapd.engine.invalidation import Invalidation
from mailmapd.plan.assembly import Assembled, assemble, plan
from mailmapd.state import warm_start
from mailmapd.state.warm_start import SLICE, WarmStart
from support.clock import FakeClock
from support.daemon import SOURCE
from support.polling import until

CONFIG = """
[state]
directory = "{folder}/state"
[database.mail]
driver = "sqlite"
path = "{folder}/mail.sqlite"
[table.alias]
database = "mail"
query = "SELECT destination FROM alias WHERE address = '%s'"
[table.mailbox]
database = "mail"
query = "SELECT maildir FROM mailbox WHERE address = '%s'"
result_format = "%s:%S"
[table.passdb]
database = "mail"
dovecot_query = "SELECT password FROM mailbox WHERE address = '%u'"
[cache]
ttl = 100
stale_ttl = 1000
negative_ttl = 50
negative_stale_ttl = 0
jitter = 0
refresh_ahead = 0
[map.aliases]
tables = ["alias"]
[map.boxes]
tables = ["mailbox"]
[dict.auth]
passdb = "passdb"
"""


class Bench:
    """One run of the daemon's warm start after the other, on the same folder; both clocks stand still."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = CONFIG.format(folder=folder)
        self.file = folder / "state" / "cache"
        self.clock = FakeClock()
        self.wall_clock = FakeClock()
        self.wall_clock.now = 1_000_000.0
        self.file.parent.mkdir()
        sqlite3.connect(folder / "mail.sqlite").close()
        self.start()

    def start(self) -> None:
        """Begin anew, with empty caches, at another time of the monotonic clock."""
        self.clock.now += 5000.0
        self.assembled: Assembled = assemble(
            plan(parse_config(self.config, str(self.folder / "mailmapd.toml"))), clock=self.clock
        )
        self.warm_start = WarmStart(lambda: self.assembled, self.clock, self.wall_clock)

    def cache(self, name: str = "alias") -> TableCache:
        """Return the cache of a table."""
        return self.assembled.engine.tables[name].cache

    def fill(self) -> None:
        """Keep one entry of each kind."""
        self.cache().store(b"user@example.com", b"other@example.com", self.clock.now)
        self.cache().store(b"none@example.com", ABSENCE, self.clock.now)
        self.cache("mailbox").store(b"user@example.com", (b"one", b"two"), self.clock.now)
        self.cache("auth.passdb").store(
            b"user@example.com", b'{"password": "{PLAIN}secret"}', self.clock.now
        )

    async def load(self) -> None:
        """Begin, and end as soon as everything is loaded."""
        self.warm_start.begin()
        await self.loaded()

    async def loaded(self) -> None:
        """Wait until everything is loaded."""
        await until(
            lambda: all(table.touched is None for table in self.assembled.engine.tables.values())
        )

    async def end(self) -> None:
        """Stop what goes on in the background."""
        if self.warm_start._task is not None:
            self.warm_start._task.cancel()
            await asyncio.gather(self.warm_start._task, return_exceptions=True)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


async def test_kept(bench: Bench) -> None:
    """Rows, values and absences are back after a start, and expire when they would have expired."""
    bench.fill()
    await bench.warm_start.save()
    bench.start()
    bench.wall_clock.now += 30.0
    await bench.load()
    assert bench.cache().get(b"user@example.com", bench.clock.now) == (
        b"other@example.com",
        bench.clock.now + 70.0,
    )
    assert bench.cache().get(b"none@example.com", bench.clock.now) == (
        ABSENCE,
        bench.clock.now + 20.0,
    )
    assert bench.cache("mailbox").get(b"user@example.com", bench.clock.now) == (
        (b"one", b"two"),
        bench.clock.now + 70.0,
    )
    await bench.end()


async def test_stale_and_useless(bench: Bench) -> None:
    """Expired entries come back as stale ones as long as they may serve as such, and not at all later."""
    bench.fill()
    await bench.warm_start.save()
    bench.start()
    bench.wall_clock.now += 500.0
    await bench.load()
    assert bench.cache().get(b"user@example.com", bench.clock.now) is None
    assert bench.cache().stale(b"user@example.com", bench.clock.now) == b"other@example.com"
    assert len(bench.cache().absences) == 0
    await bench.end()
    bench.start()
    bench.wall_clock.now += 5000.0
    await bench.load()
    assert len(bench.cache().rows) == 0
    await bench.end()


async def test_clock_set_back(bench: Bench) -> None:
    """A wall clock that was set back makes no entry live longer than a new one."""
    bench.fill()
    await bench.warm_start.save()
    bench.start()
    bench.wall_clock.now -= 1e9
    await bench.load()
    assert bench.cache().get(b"user@example.com", bench.clock.now + 99.0)
    assert bench.cache().get(b"user@example.com", bench.clock.now + 101.0) is None
    await bench.end()


async def test_passwords(bench: Bench) -> None:
    """Tables of dicts are saved and loaded only with passwords = true, and the file is for this user alone."""
    bench.fill()
    await bench.warm_start.save()
    assert b"secret" not in bench.file.read_bytes()
    bench.config = bench.config.replace("[state]", "[state]\npasswords = true")
    bench.start()
    bench.fill()
    await bench.warm_start.save()
    assert b"secret" in bench.file.read_bytes()
    assert bench.file.stat().st_mode & 0o777 == 0o600
    bench.start()
    await bench.load()
    assert len(bench.cache("auth.passdb").rows) == 1
    await bench.end()
    bench.config = bench.config.replace("passwords = true", "passwords = false")
    bench.start()
    await bench.load()
    assert len(bench.cache("auth.passdb").rows) == 0
    assert len(bench.cache().rows) == 1
    await bench.end()


async def test_secret_tables(bench: Bench) -> None:
    """A table that is marked as secret is never saved or loaded, whatever is said of passwords."""
    bench.config = bench.config.replace("[state]", "[state]\npasswords = true")
    bench.start()
    bench.fill()
    await bench.warm_start.save()
    assert b"other@example.com" in bench.file.read_bytes()
    bench.config = bench.config.replace("[table.alias]", "[table.alias]\nsecret = true")
    bench.start()
    await bench.load()
    assert len(bench.cache().rows) == 0
    await bench.end()
    bench.fill()
    await bench.warm_start.save()
    assert b"other@example.com" not in bench.file.read_bytes()
    assert b"secret" in bench.file.read_bytes()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("SELECT destination FROM alias", "SELECT goto FROM alias"),
        ("mail.sqlite", "other.sqlite"),
        ("[table.alias]", '[table.alias]\ndomain = ["example.com", "example.net"]'),
        ("WHERE address = '%s'", "WHERE address = '%s' LIMIT 1"),
    ],
)
async def test_changed_table(bench: Bench, old: str, new: str) -> None:
    """A table whose query, database or domains have changed takes nothing from the file."""
    bench.fill()
    await bench.warm_start.save()
    bench.config = bench.config.replace(old, new)
    bench.start()
    await bench.load()
    assert len(bench.cache().rows) == 0
    await bench.end()


def test_digests(bench: Bench) -> None:
    """The digest of a table is the same in every process, and does not depend on how long its entries live."""
    domains = '[table.alias]\ndomain = ["a.example", "b.example", "c.example"]'
    script = """if True:
        import sys
        from mailmapd.plan.assembly import plan
        from mailmapd.state.table_digest import table_digests
        from mailmapd.config.loader import parse_config
        print({name: digest.hex() for name, digest in table_digests(plan(parse_config(sys.argv[1], "/x.toml"))).items()})
    """
    shown = set()
    for seed, ttl in (("1", "ttl = 100"), ("2", "ttl = 5")):
        config = bench.config.replace("[table.alias]", domains).replace("ttl = 100", ttl)
        environment = os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": str(SOURCE)}
        shown.add(
            subprocess.run(
                [sys.executable, "-c", script, config],
                env=environment,
                capture_output=True,
                check=True,
            ).stdout
        )
    assert len(shown) == 1


async def test_fetched_meanwhile(bench: Bench) -> None:
    """What was fetched while the file is being loaded wins, and what was flushed meanwhile is not loaded."""
    for number in range(3 * SLICE):
        bench.cache().store(b"user%d@example.com" % number, b"old", bench.clock.now)
    await bench.warm_start.save()
    bench.start()
    bench.warm_start.begin()
    await flush(bench.assembled.engine, FlushRequest(key=b"user1@example.com"), b"+")
    bench.cache().store(b"user2@example.com", b"new", bench.clock.now)
    bench.cache().store(b"user3@example.com", ABSENCE, bench.clock.now)
    await bench.loaded()
    assert bench.cache().peek(b"user1@example.com") is None
    assert [bench.cache().peek(b"user%d@example.com" % number) for number in (2, 3)] != [None, None]
    assert bench.cache().get(b"user2@example.com", bench.clock.now) == (
        b"new",
        bench.clock.now + 100.0,
    )
    assert bench.cache().get(b"user3@example.com", bench.clock.now) == (
        ABSENCE,
        bench.clock.now + 50.0,
    )
    assert bench.cache().get(b"user4@example.com", bench.clock.now) == (
        b"old",
        bench.clock.now + 100.0,
    )
    await bench.end()


FLUSHED = Invalidation("alias", frozenset((b"user@example.com",)))


async def test_flushed_entries_stay_out(bench: Bench) -> None:
    """What was flushed after a save is not loaded again, not even after a crash, and everything else is."""
    bench.fill()
    await bench.warm_start.save()
    await bench.warm_start.forgotten([FLUSHED])
    bench.start()
    await bench.load()
    assert bench.cache().get(b"user@example.com", bench.clock.now) is None
    assert bench.cache().get(b"none@example.com", bench.clock.now) is not None
    assert bench.cache("mailbox").get(b"user@example.com", bench.clock.now) is not None
    await bench.end()


@pytest.mark.parametrize(
    "whole",
    [Invalidation(), Invalidation("alias"), Invalidation("alias", frozenset(), unseen=True)],
)
async def test_flushed_as_a_whole(bench: Bench, whole: Invalidation) -> None:
    """Where a flush was about more than the keys in memory, nothing of the table is loaded."""
    bench.fill()
    await bench.warm_start.save()
    await bench.warm_start.forgotten([whole])
    bench.start()
    await bench.load()
    assert bench.cache().keys() == []
    assert len(bench.cache("mailbox").keys()) == (1 if whole.table else 0)
    await bench.end()


async def test_flushed_during_a_save(bench: Bench) -> None:
    """A flush while a save is under way counts for the file that comes of it; the next one needs to
    know nothing of it.
    """
    bench.fill()
    saving = asyncio.ensure_future(bench.warm_start.save())
    await asyncio.sleep(0)
    await bench.warm_start.forgotten([FLUSHED])
    await saving
    bench.start()
    await bench.load()
    assert bench.cache().get(b"user@example.com", bench.clock.now) is None
    await bench.end()
    await bench.warm_start.save()
    assert [path.name for path in bench.file.parent.iterdir()] == ["cache"]


@pytest.mark.parametrize("line", [b'{"table": "alias", "ke', b"\n", b'{"table": 1}\n', b"\0\0"])
async def test_a_journal_that_was_cut_off(bench: Bench, line: bytes) -> None:
    """A line that does not end, or says nothing, could have been about anything: nothing is loaded."""
    bench.fill()
    await bench.warm_start.save()
    await bench.warm_start.forgotten([Invalidation("other")])
    with bench.file.with_suffix(".forgotten").open("ab") as stream:
        stream.write(line)
    bench.start()
    await bench.load()
    assert bench.cache().keys() == []
    await bench.end()


async def test_a_flush_that_cannot_be_written_down(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    """Where the journal cannot be written the state file goes, and the log says why."""
    bench.fill()
    await bench.warm_start.save()
    bench.file.with_suffix(".forgotten").mkdir()
    await bench.warm_start.forgotten([FLUSHED])
    assert not bench.file.exists()
    assert "a flush cannot be written down: Is a directory" in caplog.text


async def test_flushes_without_end(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What was flushed fills no disk: with very much of it the file goes, and the next save is as good as any."""
    monkeypatch.setattr(warm_start, "MOST_WRITTEN_DOWN", 1000)
    bench.fill()
    await bench.warm_start.save()
    saving = asyncio.ensure_future(bench.warm_start.save())
    await asyncio.sleep(0)
    journal, longest = bench.file.with_suffix(".forgotten"), 0
    while bench.file.exists():
        await bench.warm_start.forgotten([FLUSHED])
        longest = max(longest, journal.stat().st_size if journal.exists() else 0)
    assert longest < 2000
    assert not journal.exists()
    await saving
    assert not bench.file.exists()
    assert "very much was flushed" in caplog.text
    await bench.warm_start.forgotten([FLUSHED])
    await bench.warm_start.save()
    bench.start()
    await bench.load()
    assert len(bench.cache("mailbox").keys()) == 1
    await bench.end()


@pytest.mark.parametrize("size", [0, 10, 40, -1])
async def test_damaged(bench: Bench, size: int, caplog: pytest.LogCaptureFixture) -> None:
    """A damaged file is named in the log, set aside and ignored; the next save writes a new one."""
    bench.fill()
    await bench.warm_start.save()
    bench.file.write_bytes(bench.file.read_bytes()[:size])
    bench.start()
    await bench.load()
    assert len(bench.cache().rows) == 0
    assert not bench.file.exists()
    assert bench.file.with_name("cache.bad").exists()
    assert f"state: {bench.file} " in caplog.text
    assert "set aside as cache.bad" in caplog.text
    await bench.warm_start.finish()
    assert bench.file.exists()


@pytest.mark.root
async def test_foreign_owner(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """A file that others own or may write is not believed, however sound it is."""
    bench.fill()
    for change in ("mode", "owner"):
        await bench.warm_start.save()
        if change == "mode":
            bench.file.chmod(0o666)
        else:
            os.chown(bench.file, 65534, -1)
        bench.start()
        await bench.load()
        assert len(bench.cache().rows) == 0
        await bench.end()
        bench.fill()
    assert caplog.text.count("is not a file that only this user can write; it is ignored") == 2


async def test_no_directory(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """A directory that is missing, or is no directory, is named at the start and at each try to
    save, and harms nothing.
    """
    bench.file.parent.rmdir()
    await bench.load()
    assert f"state: {bench.file.parent} is missing or read-only" in caplog.text
    await bench.warm_start.finish()
    assert f"state: the cache is not saved: {bench.file}: No such file or directory" in caplog.text
    bench.file.parent.write_text("")
    caplog.clear()
    await bench.warm_start.save()
    assert "Not a directory" in caplog.text


async def test_full_disk(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """A disk that fills up while the file is written costs one line in the log.

    The old file stays, and nothing is left behind.
    """
    bench.fill()
    await bench.warm_start.save()
    before = bench.file.read_bytes()
    bench.file.with_name("cache.new").symlink_to("/dev/full")  # is replaced, never followed
    await bench.warm_start.save()
    assert not bench.file.with_name("cache.new").exists()
    bench.assembled.engine.tables["alias"].cache.store(
        b"long@example.com", b"x" * 900_000, bench.clock.now
    )
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        await bench.warm_start.save()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    assert "state: the cache is not saved" in caplog.text
    assert "File too large" in caplog.text
    assert len(bench.file.read_bytes()) == len(before)
    assert [path.name for path in bench.file.parent.iterdir()] == ["cache"]


async def test_off(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """Without state.directory nothing is read, written or said."""
    bench.config = bench.config.replace(f'directory = "{bench.folder}/state"', "")
    bench.start()
    caplog.set_level(logging.DEBUG, "mailmapd")
    bench.fill()
    await bench.load()
    await bench.warm_start.finish()
    await bench.warm_start.forgotten([Invalidation()])
    assert [record for record in caplog.records if record.name.startswith("mailmapd")] == []
    assert list(bench.file.parent.iterdir()) == []


async def test_stopped_while_loading(bench: Bench) -> None:
    """A daemon that stops before its file is loaded leaves the file as it is."""
    for number in range(3 * SLICE):
        bench.cache().store(b"user%d@example.com" % number, b"old", bench.clock.now)
    await bench.warm_start.save()
    before = bench.file.read_bytes()
    bench.start()
    bench.warm_start.begin()
    await asyncio.sleep(0)
    await bench.warm_start.finish()
    assert bench.file.read_bytes() == before


@pytest.mark.parametrize("believed", [True, False])
async def test_followed(bench: Bench, believed: bool) -> None:
    """What is followed keeps its long time in the file, and counts from the save until its feed lacks nothing."""

    async def keep() -> dict[str, object]:
        return {"mail": {"marks": {}, "tables": ["alias"]}}

    bench.warm_start = WarmStart(lambda: bench.assembled, bench.clock, bench.wall_clock, keep=keep)
    for name in ("alias", "mailbox"):
        bench.cache(name).store(b"user@example.com", b"value", bench.clock.now, 10_000.0)
    await bench.warm_start.save()
    bench.start()
    bench.wall_clock.now += 30.0
    await bench.load()
    assert await bench.warm_start.loaded() == await keep()
    ordinary = bench.clock.now + 70.0
    for name in ("alias", "mailbox"):
        entry = bench.cache(name).peek(b"user@example.com")
        assert entry is not None
        assert entry[1] == pytest.approx(ordinary, abs=0.1)
    bench.cache().settle(believed=believed)
    entry = bench.cache().peek(b"user@example.com")
    assert entry is not None
    assert entry[1] == pytest.approx(bench.clock.now + 9970.0 if believed else ordinary, abs=0.1)
    await bench.end()
