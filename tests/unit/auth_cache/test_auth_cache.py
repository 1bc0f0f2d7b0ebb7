from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mailmapd.auth_cache import forgetting
from mailmapd.auth_cache.auth_master import AuthMaster, AuthMasterError
from mailmapd.auth_cache.forgetting import AuthCache
from mailmapd.check.auth_cache import auth_cache_findings
from mailmapd.config.address import UnixAddress
from mailmapd.config.loader import parse_config
from mailmapd.config.schema import DovecotSection
from mailmapd.engine.engine import Engine
from mailmapd.engine.invalidation import Invalidation
from mailmapd.plan.assembly import assemble, plan
from support.clock import FakeClock
from support.polling import until

CONFIG = """
[database.mail]
driver = "mysql"
dbname = "mail"
[table.passwords]
database = "mail"
dovecot_query = "SELECT 1 AS password FROM t WHERE u = '%u'"
[table.domains]
database = "mail"
dovecot_query = "SELECT 1 AS home FROM t WHERE u = '%d'"
[table.alias]
database = "mail"
query = "SELECT 1 FROM t WHERE u = '%s'"
[map.alias]
tables = ["alias"]
[dict.auth]
passdb = "passwords"
userdb = "domains"
"""


class Dovecot:
    """An auth-master socket: what it hears, and says: ``OK``, ``FAIL``, nothing, or it closes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.says = "OK"
        self.heard: list[list[bytes]] = []
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen."""
        self._server = await asyncio.start_unix_server(self._serve, str(self.path))

    async def close(self) -> None:
        """Listen no more."""
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"VERSION\t1\t1\nSPID\t7\n")
        while line := await reader.readline():
            words = line.rstrip(b"\n").split(b"\t")
            if words[0] != b"CACHE-FLUSH":
                continue
            assert len(line) < 1024
            self.heard.append(words[2:])
            if self.says == "nothing":
                break
            writer.write(b"%b\t%b\t1\n" % (self.says.encode(), words[1]))
        writer.close()


@pytest.fixture
async def dovecot(tmp_path: Path) -> AsyncIterator[Dovecot]:
    made = Dovecot(tmp_path / "master")
    await made.start()
    yield made
    await made.close()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def engine(clock: FakeClock) -> Engine:
    return assemble(plan(parse_config(CONFIG, "/tmp/x.toml")), clock=clock).engine


@pytest.fixture
async def cache(
    dovecot: Dovecot, engine: Engine, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[AuthCache]:
    for name in ("AGAIN", "RETRY", "LOOK"):
        monkeypatch.setattr(forgetting, name, 0.05)
    made = AuthCache(str(dovecot.path), lambda: engine, clock)
    engine.watchers.append(made.forget)
    made.start()
    yield made
    await made.close()


async def test_begins_with_everything(cache: AuthCache, dovecot: Dovecot) -> None:
    """What Dovecot remembers from before is forgotten, because nobody knows what happened to it."""
    await until(lambda: dovecot.heard == [[]])
    assert cache.failure == ""


@pytest.mark.parametrize(
    ("invalidation", "said"),
    [
        (Invalidation("auth.passdb", frozenset((b"a@b.example",))), [b"a@b.example"]),
        (Invalidation("auth.passdb", frozenset((b"a@b.example",)), unseen=True), []),
        (Invalidation("auth.passdb"), []),
        (Invalidation("auth.passdb", before=7.0), []),
        (Invalidation("auth.userdb", frozenset((b"b.example",))), []),
        (Invalidation(), []),
        (Invalidation("alias", frozenset((b"a@b.example",))), None),
    ],
)
async def test_what_is_said(
    cache: AuthCache,
    dovecot: Dovecot,
    engine: Engine,
    invalidation: Invalidation,
    said: list[bytes] | None,
) -> None:
    """One user's entries by name, everything else as everything, twice; what is not Dovecot's not at all."""
    del cache
    await until(lambda: dovecot.heard == [[]])
    engine.apply(invalidation)
    if said is None:
        engine.apply(Invalidation("auth.passdb", frozenset((b"mark@x",))))
        said = [b"mark@x"]
    await until(lambda: len(dovecot.heard) == 3)
    assert dovecot.heard[1:] == [said, said]


async def test_many_names(cache: AuthCache, dovecot: Dovecot, engine: Engine) -> None:
    """Names go in lines that Dovecot takes; very many are everything."""
    await until(lambda: dovecot.heard == [[]])
    names = [b"%d" % number * 30 + b"@b.example" for number in range(100)]
    engine.apply(Invalidation("auth.passdb", frozenset(names)))
    await until(lambda: cache.flushes == 2)
    assert sorted(name for line in dovecot.heard for name in line) == sorted(names)
    many = frozenset(b"%d@b.example" % number for number in range(forgetting.MOST_NAMES + 1))
    before = len(dovecot.heard)
    engine.apply(Invalidation("auth.passdb", many))
    await until(lambda: len(dovecot.heard) > before)
    assert dovecot.heard[before] == []


async def test_very_many_keys(cache: AuthCache, dovecot: Dovecot, engine: Engine) -> None:
    """Of a change of very many keys nobody looks for the users, and none are kept beside everything."""
    await until(lambda: dovecot.heard == [[]])
    await dovecot.close()
    dovecot.says = "nothing"
    keys = frozenset(b"%d@b.example" % number for number in range(forgetting.MOST_AT_ONCE + 1))
    assert cache._users(Invalidation("auth.passdb", keys)) is None
    some = frozenset(list(keys)[:50])
    for _ in range(50):
        some = frozenset(b"x" + key for key in some)
        engine.apply(Invalidation("auth.passdb", some))
    assert cache._everything
    assert not cache._names


@pytest.mark.parametrize("says", ["FAIL", "nothing", "away"])
async def test_dovecot_fails(cache: AuthCache, dovecot: Dovecot, engine: Engine, says: str) -> None:
    """Until Dovecot has done it, it is a problem, and said again: everything, because it may have missed something."""
    await until(lambda: dovecot.heard == [[]])
    dovecot.says = says
    if says == "away":
        cache._master.close()
        await dovecot.close()
        dovecot.path.unlink()
    engine.apply(Invalidation("auth.passdb", frozenset((b"a@b.example",))))
    await until(lambda: cache.failure != "")
    dovecot.says = "OK"
    if says == "away":
        await dovecot.start()
    await until(lambda: cache.failure == "")
    assert dovecot.heard[-1] in ([], [b"a@b.example"])
    assert [] in dovecot.heard[1:]


async def test_a_defect(
    cache: AuthCache, dovecot: Dovecot, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was to be said when a defect of ours came in between is said as everything."""
    await until(lambda: dovecot.heard == [[]])
    say = cache._master.flush

    async def broken(names: list[bytes] | None) -> None:
        if names is not None:
            raise RuntimeError("a defect")
        await say(names)

    monkeypatch.setattr(cache._master, "flush", broken)
    engine.apply(Invalidation("auth.passdb", frozenset((b"a@b.example",))))
    await until(lambda: len(dovecot.heard) > 1)
    assert dovecot.heard[1] == []


async def test_nobody_hears_of_changes(
    cache: AuthCache, dovecot: Dovecot, clock: FakeClock
) -> None:
    """While a table is not followed, everything is forgotten whenever its ttl has passed."""
    del cache
    await until(lambda: dovecot.heard == [[]])
    clock.now += 300.0
    await until(lambda: dovecot.heard == [[], []])


async def test_check(dovecot: Dovecot) -> None:
    """`check` says when Dovecot cannot be told, and has nothing of anybody's forgotten to find out."""
    section = DovecotSection(auth_master=UnixAddress(str(dovecot.path)))
    assert [finding async for finding in auth_cache_findings(section)] == []
    assert dovecot.heard == [[b"nobody@elsewhere.invalid"]]
    dovecot.says = "FAIL"
    [finding] = [finding async for finding in auth_cache_findings(section)]
    assert str(dovecot.path) in finding.problem


async def test_no_dovecot(tmp_path: Path) -> None:
    """An error names the socket."""
    with pytest.raises(AuthMasterError, match="nobody-here: No such file"):
        await AuthMaster(str(tmp_path / "nobody-here")).flush(None)


async def test_what_is_no_dovecot(tmp_path: Path) -> None:
    """A line without end, of whoever listens there, is a failure of his."""

    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"x" * 1_000_000)
        writer.close()

    path = str(tmp_path / "master")
    async with await asyncio.start_unix_server(serve, path):
        with pytest.raises(AuthMasterError, match="none of Dovecot's"):
            await AuthMaster(path).flush(None)
