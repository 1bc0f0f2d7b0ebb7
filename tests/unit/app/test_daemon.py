from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mailmapd.app.daemon import Daemon
from mailmapd.app.service_manager import ServiceManager
from mailmapd.cache.memory import POSITIVE
from mailmapd.config.loader import load_config
from mailmapd.engine.outcome import Source
from mailmapd.errors import ConfigError, ProtocolError
from mailmapd.metrics.exposition import Exposition
from mailmapd.model import NOT_FOUND
from mailmapd.sockets.opening import SocketSet
from support.polling import until

CONFIG = """
[listen]
socketmap = ["unix:{folder}/socketmap"]
[limits]
drain_timeout = "100ms"
[database.mail]
driver = "sqlite"
path = "{folder}/mail.sqlite"
[table.alias]
database = "mail"
query = "SELECT destination FROM alias WHERE address = '%s'"
[table.mailbox]
database = "mail"
query = "SELECT maildir FROM mailbox WHERE address = '%s'"
[map.aliases]
tables = ["alias"]
[map.boxes]
tables = ["mailbox"]
"""
ENTRIES = 5000


async def test_reload_keeps_and_frees(short_path: Path) -> None:
    """A reload keeps the cache of a table that did not change, and frees that of a changed one once
    its lookups have had their time.
    """
    file = short_path / "mailmapd.toml"
    file.write_text(CONFIG.format(folder=short_path))
    daemon = Daemon(load_config(str(file)), SocketSet({}), ServiceManager())
    running = asyncio.create_task(daemon.run())
    await until(lambda: bool(list(daemon.listeners)))
    kept, changed = daemon.engine.tables["alias"], daemon.engine.tables["mailbox"]
    for table in (kept, changed):
        for number in range(ENTRIES):
            table.cache.store(b"user%d@example.com" % number, b"value", 0.0)
    file.write_text(file.read_text().replace("SELECT maildir", "SELECT home"))
    await daemon.reload()
    assert not daemon.reload_failed
    assert daemon.engine.tables["alias"] is kept
    assert daemon.engine.tables["mailbox"] is not changed
    assert len(changed.cache.rows) == ENTRIES
    await until(lambda: not changed.cache.keys())
    assert len(kept.cache.rows) == ENTRIES
    assert daemon.engine.tables["mailbox"].invalidations["table"] == 0, "nothing was invalidated"
    daemon._stop.set()
    await running


class Running:
    """A daemon in this event loop; `listen` is what stands in its `[listen]` section beside one socketmap listener."""

    def __init__(self, folder: Path, listen: str = "") -> None:
        self.folder = folder
        self.file = folder / "mailmapd.toml"
        self.write(listen)
        self.daemon = Daemon(load_config(str(self.file)), SocketSet({}), ServiceManager())
        self.running = asyncio.create_task(self.daemon.run())

    def write(self, listen: str, old: str = "", new: str = "") -> None:
        """Configure it so, with a text of the rest replaced."""
        text = (
            CONFIG.format(folder=self.folder)
            .replace("[limits]", f"{listen}\n[limits]")
            .replace(old, new)
        )
        self.file.write_text(text + f'[state]\ndirectory = "{self.folder}"\n')

    async def loaded(self) -> None:
        """Wait until everything is up, the saved cache included."""
        await until(lambda: self.daemon._warm_start._loaded)

    async def stop(self) -> None:
        """Stop it as SIGTERM does."""
        self.daemon._stop.set()
        await self.running


async def test_reload_with_less_memory(short_path: Path) -> None:
    """What a reload allows no more is freed at once, though nothing new comes, and not all of it at one go."""
    running = Running(short_path)
    await running.loaded()
    memory, cache = running.daemon.memory, running.daemon.engine.tables["alias"].cache
    for number in range(30_000):
        cache.store(b"user%d@example.com" % number, b"value", 0.0)
    held, shown = memory.used[POSITIVE], []
    observed = asyncio.create_task(_note(lambda: shown.append(memory.used[POSITIVE])))
    running.write("", "[database.mail]", '[cache]\nmax_bytes = "4MiB"\n[database.mail]')
    await running.daemon.reload()
    assert memory.max_bytes == 4 * 2**20
    await until(lambda: memory.used[POSITIVE] <= 3 * 2**20)
    observed.cancel()
    assert len({used for used in shown if 3 * 2**20 < used < held}) > 3
    await running.stop()


async def _note(note: Callable[[], None]) -> None:
    """Note something at each turn of the loop."""
    while True:
        note()
        await asyncio.sleep(0)


@pytest.mark.parametrize("turns", range(8))
async def test_reload_while_starting(short_path: Path, turns: int) -> None:
    """A reload that is asked for while the daemon starts waits for that, and does not stumble over its sockets."""
    running = Running(
        short_path,
        f'lookup_http = "unix:{short_path}/lookup"\ncontrol = "unix:{short_path}/control"',
    )
    for _ in range(turns):
        await asyncio.sleep(0)
    await running.daemon.reload()
    assert not running.daemon.reload_failed
    await running.stop()


@pytest.mark.parametrize("turns", range(8))
@pytest.mark.parametrize("adds", [True, False])
async def test_reload_while_stopping(short_path: Path, turns: int, adds: bool) -> None:
    """A reload and a stop at the same time end in order, and leave no socket behind."""
    lookup = f'lookup_http = "unix:{short_path}/lookup"'
    control = f'control = "unix:{short_path}/control"'
    running = Running(short_path, control if adds else f"{lookup}\n{control}")
    await running.loaded()
    running.write(f"{lookup}\n{control}" if adds else control)
    running.daemon._stop.set()
    for _ in range(turns):
        await asyncio.sleep(0)
    await asyncio.gather(running.daemon.reload(), running.running)
    assert set(os.listdir(short_path)) <= {"mailmapd.toml", "cache"}  # noqa: PTH208 (the loop has nothing else to do)


def counted(daemon: Daemon) -> dict[str, float]:
    """Return what /metrics shows of lookups in the map `boxes` and its table."""
    text = b"".join(Exposition(daemon).pieces()).decode()
    shown = (
        'mailmapd_lookups_total{listener="socketmap",map="boxes",result="found"}',
        'mailmapd_lookup_duration_seconds_count{map="boxes",source="cache"}',
        'mailmapd_cache_requests_total{outcome="hit",table="mailbox"}',
        'mailmapd_queries_avoided_total{map="boxes"}',
    )
    lines = dict(line.rsplit(" ", 1) for line in text.splitlines() if line[:1] != "#")
    return {name.partition("{")[0].removeprefix("mailmapd_"): float(lines[name]) for name in shown}


async def test_counts_are_complete_whenever_they_are_read(short_path: Path) -> None:
    """Every lookup is counted before metrics, statistics and the status line show counters, and
    before a reload hands them on.
    """
    running = Running(short_path)
    await running.loaded()
    daemon = running.daemon
    daemon.engine.tables["mailbox"].cache.store(b"user@example.com", b"box", time.monotonic())
    reader, writer = await asyncio.open_unix_connection(str(short_path / "socketmap"))

    async def ask(lookups: int) -> None:
        for _ in range(lookups):
            writer.write(b"22:boxes user@example.com,")
            assert await reader.readexactly(9) == b"6:OK box,"

    await ask(7)
    assert set(counted(daemon).values()) == {7.0}
    await ask(5)
    assert daemon.stats()["maps"]["boxes"]["results"]["found"] == 12
    assert daemon.stats()["tables"]["mailbox"]["hits"] == 12
    await ask(3)
    assert "100.0% of 15 from memory" in daemon.health.line()
    await ask(2)
    running.write("", "SELECT maildir", "SELECT home")
    await daemon.reload()
    assert set(counted(daemon).values()) == {17.0}
    writer.close()
    await running.stop()


async def test_reload_is_one_step(short_path: Path) -> None:
    """There is no moment at which a listener answers from tables that a flush would not reach."""
    running = Running(short_path, f'lookup_http = "unix:{short_path}/lookup"')
    await running.loaded()
    before = running.daemon.engine
    running.write("", "SELECT maildir", "SELECT home")
    reload = asyncio.create_task(running.daemon.reload())
    while not reload.done():
        await asyncio.sleep(0)
        served = running.daemon.front.services["socketmap"]._served[b"boxes"]
        assert served.asked is running.daemon.engine.maps["boxes"]
    assert running.daemon.engine is not before
    await running.stop()


async def test_reload_ends_a_stalled_client(short_path: Path) -> None:
    """A client that does not read, of a listener that a reload removed, is closed when the others
    have had their time.
    """
    running = Running(short_path, f'dict = ["unix:{short_path}/dict"]')
    await running.loaded()
    reader, writer = await asyncio.open_unix_connection(str(short_path / "dict"))
    (listener,) = [candidate for candidate in running.daemon.listeners if candidate.name == "dict"]
    await until(lambda: bool(listener.connections))
    for connection in listener.connections:
        connection.pause_writing()
    running.write("")
    await running.daemon.reload()
    assert not (short_path / "dict").exists()
    assert await reader.read() == b""
    writer.close()
    await until(lambda: not listener.connections)
    await running.stop()


async def test_flush_of_an_unknown_name(short_path: Path) -> None:
    """A flush that names nothing we have is not written down beside the saved cache; every other one is."""
    running = Running(short_path, f'control = "unix:{short_path}/control"')
    await running.loaded()
    await running.daemon._warm_start.save()
    reader, writer = await asyncio.open_unix_connection(str(short_path / "control"))
    for name, kept in (("nothere", True), ("alias", False)):
        writer.write(json.dumps({"do": "flush", "table": name}).encode() + b"\n")
        assert json.loads(await reader.readline())["ok"] is not kept
        assert (short_path / "cache.forgotten").exists() is not kept
        assert (short_path / "cache").exists()
    writer.close()
    await running.stop()


async def test_nothing_to_serve_is_refused(short_path: Path) -> None:
    """A configuration without an address is a fault: at the start, and at a reload, which leaves every socket open."""
    running = Running(short_path)
    await running.loaded()
    running.file.write_text("")
    await running.daemon.reload()
    assert running.daemon.reload_failed
    fault = "mailmapd.toml: listen: names no address, so nobody could ask"
    assert fault in running.daemon.status_line(), "an administrator does not see why"
    _, writer = await asyncio.open_unix_connection(str(short_path / "socketmap"))
    writer.close()
    await running.stop()
    with pytest.raises(
        ConfigError,
        match=r"mailmapd\.toml: listen: names no address, so nobody could ask; write socketmap = ",
    ):
        await Daemon(load_config(str(running.file)), SocketSet({}), ServiceManager()).run()


def counters(daemon: Daemon) -> dict[str, float]:
    """Return everything that must only grow, as Prometheus sees it."""
    lines = [
        line.rpartition(" ")
        for line in b"".join(Exposition(daemon).pieces()).decode().splitlines()
        if line.startswith("mailmapd_")
    ]
    ends = ("_total", "_count", "_sum", "_bucket")
    return {name: float(value) for name, _, value in lines if name.partition("{")[0].endswith(ends)}


async def test_counters_outlive_their_listeners(short_path: Path) -> None:
    """No counter that Prometheus sees falls when a reload takes a listener away, or brings it back."""
    extra = f'dict = ["unix:{short_path}/dict"]\n[listen.tcp_table]\naliases = "127.0.0.1:0"'
    running = Running(short_path, extra)
    await running.loaded()
    daemon = running.daemon
    for listener in daemon.listeners:
        listener.violated(ProtocolError("too_long", "x"))
        listener.meter.refused += 1
    for meter in daemon.meters:
        if meter.name == "aliases":
            meter.count(NOT_FOUND, Source.DATABASE, 0.1)
    seen = counters(daemon)
    assert seen['mailmapd_lookup_duration_seconds_count{map="aliases",source="database"}'] == 2
    assert (
        seen['mailmapd_protocol_errors_total{listener="tcp_table.aliases",reason="too_long"}'] == 1
    )
    for listen in ("", extra):
        running.write(listen)
        await running.daemon.reload()
        assert not daemon.reload_failed
        now = counters(daemon)
        assert {name: count for name, count in seen.items() if now.get(name, 0) < count} == {}
        seen = now
    for meter in daemon.meters:
        if meter.name == "aliases":
            meter.count(NOT_FOUND, Source.DATABASE, 0.1)
    assert (
        counters(daemon)['mailmapd_lookup_duration_seconds_count{map="aliases",source="database"}']
        == 4
    )
    await running.stop()


async def test_counters_outlive_their_tables(short_path: Path) -> None:
    """The counters of a table go on when a reload changes its query."""
    running = Running(short_path)
    await running.loaded()
    table = running.daemon.engine.tables["mailbox"]
    table.hits = table.misses = table.stale = table.coalesced = table.negative_hits = 7
    seen = counters(running.daemon)
    running.write("", "SELECT maildir", "SELECT home")
    await running.daemon.reload()
    assert running.daemon.engine.tables["mailbox"] is not table
    now = counters(running.daemon)
    assert {name: count for name, count in seen.items() if now.get(name, 0) < count} == {}
    await running.stop()
