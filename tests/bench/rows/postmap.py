"""Postfix's own client.

`postmap -q -` on mailmapd and on the tables it replaces, from memory (row 4) and cold (row 7).
"""

from __future__ import annotations

import random
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from bench import mailboxes
from bench.one_core import on_one_core
from bench.report import Line, count, per_second, times
from bench.rounds import interleave, median_ratio
from bench.source import OURS
from bench.workbench import BenchDaemon, Workbench, database_section
from support.mariadb import private_directory
from support.postfix import Postfix
from support.process import ServerFailed, ServerProcess, free_port, program

ROWS = (4, 7)
CLIENTS = 16
COLD_PART = 4
NOT_FOUND = 1
PROXIED = "proxy:mysql:"
EMPTY_MEMCACHE, FULL_MEMCACHE = "memcache:, empty at first", "memcache:, filled"
FLOOR = "echo_floor: no daemon is faster"
TARGETS = {"mysql:": 1.6, PROXIED: 1.9, EMPTY_MEMCACHE: 1.9, FULL_MEMCACHE: 1.9}
INDEXED = ("cdb", "lmdb")
MEMCACHED_MIB = "128"


def configuration(cf: Path, socket: Path) -> str:
    """Return a configuration with one map that asks one table for the whole key, as `postmap -q` does.

    As many connections as clients.
    """
    settings = dict(
        line.split(" = ", 1)
        for line in (cf / "virtual_mailbox_maps.cf").read_text(encoding="utf-8").splitlines()
    )
    return f"""\
{database_section(socket)}pool_size = {CLIENTS}
[listen]
socketmap = ["unix:{{directory}}/socketmap"]
control = "unix:{{directory}}/control"
[table.mailbox]
database = "mail"
query = "{settings["query"]}"
[map.mailbox]
tables = ["mailbox"]
[cache]
ttl = "1d"
"""


class PostmapClient:
    """Runs `postmap -q -` on key files, in a running private Postfix (which `proxy:` needs)."""

    def __init__(self, bench: Workbench, postfix: Postfix) -> None:
        self.directory = bench.directory()
        self._postfix = postfix

    def seconds(self, table: str, keys: Sequence[Path]) -> float:
        """Return how long one process per key file takes to look every key up, all at the same time."""
        started = time.perf_counter()
        running = [self._start(table, file) for file in keys]
        for process in running:
            process.wait()
        elapsed = time.perf_counter() - started
        if (
            any(process.returncode not in (0, NOT_FOUND) for process in running)
            or self._log.stat().st_size
        ):
            raise ServerFailed(
                f"postmap -q - {table} failed:\n{self._log.read_text(encoding='utf-8')}"
            )
        return elapsed

    @property
    def _log(self) -> Path:
        return self.directory / "errors"

    def _start(self, table: str, file: Path) -> subprocess.Popen[bytes]:
        command = [program("postmap", "postfix"), "-c", str(self._postfix.config), "-q", "-", table]
        with file.open("rb") as asked, self._log.open("ab") as errors:
            return subprocess.Popen(
                command,
                stdin=asked,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                cwd=self._postfix.queue_directory,
            )


def measure(bench: Workbench, wanted: set[int]) -> Iterator[Line]:
    """Yield the lines of rows 4 and 7."""
    folder = bench.directory()
    cf = bench.write_cf(folder / "sql", bench.near)
    proxied = f"proxy:mysql:{cf}/virtual_mailbox_maps.cf"
    with ExitStack() as stack:
        home = stack.enter_context(private_directory())
        postfix = stack.enter_context(Postfix(home, {"proxy_read_maps": proxied}))
        daemons = {
            source.name: stack.enter_context(
                bench.daemon(configuration(cf, bench.near), source=source, pinned=False)
            )
            for source in bench.sources[: None if 7 in wanted else 1]
        }
        client = PostmapClient(bench, postfix)
        served = {
            name: f"socketmap:unix:{daemon.directory}/socketmap:mailbox"
            for name, daemon in daemons.items()
        }
        ours = served[OURS]
        keys = bench.draws.shuffled(
            "keys of postmap",
            mailboxes.addresses(min(bench.scale.postmap_keys, bench.scale.mailboxes)),
        )
        if 7 in wanted:
            yield from _cold(
                bench,
                client,
                keys,
                served | {PROXIED: proxied},
                list(daemons.values()),
            )
        if 4 in wanted:
            client.seconds(ours, [mailboxes.write_keys(client.directory / "keys", keys)])
            memcache = _memcache(bench, folder, proxied)
            tables = {
                "mailmapd": ours,
                "mysql:": f"mysql:{cf}/virtual_mailbox_maps.cf",
                PROXIED: proxied,
            }
            tables |= {
                EMPTY_MEMCACHE: memcache,
                FULL_MEMCACHE: memcache,
                FLOOR: f"socketmap:unix:{bench.floor}:mailbox",
            }
            yield from _warm(bench, client, keys, tables | _indexed(folder, keys, postfix), TARGETS)
            del tables[EMPTY_MEMCACHE]
            with on_one_core():
                yield from _warm(bench, client, keys, tables, {}, where=", everything on one core")


def _warm(
    bench: Workbench,
    client: PostmapClient,
    keys: Sequence[str],
    tables: dict[str, str],
    targets: dict[str, float],
    *,
    where: str = "",
) -> Iterator[Line]:
    """Look up another part of the keys in each round.

    A table that does not keep what it has answered gains nothing from a round.
    """
    parts = bench.scale.repetitions
    files = [
        mailboxes.write_keys(client.directory / f"part{part}", keys[part::parts])
        for part in range(parts)
    ]
    rounds = interleave(
        [[file] for file in files],
        {name: partial(client.seconds, table) for name, table in tables.items()},
    )
    each = len(keys) / parts
    for name in [name for name in tables if name != "mailmapd"]:
        ratio = median_ratio(rounds[name], rounds["mailmapd"])
        target = targets.get(name)
        yield Line(
            4,
            f"`postmap -q -`, {count(len(keys))} keys{where}, against {name}",
            per_second(each / statistics.median(rounds["mailmapd"])),
            per_second(each / statistics.median(rounds[name])),
            times(ratio),
            "reported" if target is None else f"≥ {target:g}",
            None if target is None else ratio >= target,
        )


def _cold(
    bench: Workbench,
    client: PostmapClient,
    keys: Sequence[str],
    tables: dict[str, str],
    daemons: Sequence[BenchDaemon],
) -> Iterator[Line]:
    """Look up another quarter of the keys in each round, drawn anew and dealt out to the clients."""
    size = len(keys) // COLD_PART
    chosen = [random.Random(seed).sample(keys, size) for seed in bench.seeds("row 7")]

    def cold(table: str, part: Sequence[str]) -> float:
        files = [
            mailboxes.write_keys(client.directory / f"keys{number}", part[number::CLIENTS])
            for number in range(CLIENTS)
        ]
        for daemon in daemons:
            _flush(daemon.command)
        return client.seconds(table, files)

    rounds = interleave(chosen, {name: partial(cold, table) for name, table in tables.items()})
    rates = {name: per_second(size / statistics.median(rounds[name])) for name in tables}
    for peer in [name for name in tables if name != OURS]:
        ratio = median_ratio(rounds[peer], rounds[OURS])
        target = peer == PROXIED
        yield Line(
            7,
            f"cold misses, {CLIENTS} `postmap -q -` at a time",
            rates[OURS],
            f"{peer} {rates[peer]}",
            times(ratio),
            "≥ 1.0" if target else "reported",
            ratio >= 1.0 if target else None,
        )


def _flush(command: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    done = command("flush", "--all")
    if done.returncode != 0:
        raise ServerFailed(f"mailmapd flush failed: {done.stderr}")


def _memcache(bench: Workbench, folder: Path, backup: str) -> str:
    """Start a memcached and return the table that asks it first."""
    port = free_port()
    command = [
        program("memcached", "memcached"),
        "-u",
        "nobody",
        "-l",
        "127.0.0.1",
        "-p",
        str(port),
        "-m",
        MEMCACHED_MIB,
    ]
    process = ServerProcess(command, folder / "memcached.log")
    bench.end_with_run(process)
    (folder / "memcache.cf").write_text(
        f"memcache = inet:127.0.0.1:{port}\nbackup = {backup}\n", encoding="utf-8"
    )
    return f"memcache:{folder}/memcache.cf"


def _indexed(folder: Path, keys: Sequence[str], postfix: Postfix) -> dict[str, str]:
    """Write the mailboxes as indexed files, which no database can beat; return those that this Postfix can read."""
    tables: dict[str, str] = {}
    supported = postfix.run("postconf", "-m").stdout.decode().split()
    for kind in [kind for kind in INDEXED if kind in supported]:
        file = folder / f"mailbox-{kind}"
        file.write_text(
            "".join(f"{key} {mailboxes.maildir(key)}\n" for key in keys), encoding="utf-8"
        )
        postfix.run("postmap", f"{kind}:{file}")
        tables[f"{kind}: files, no database"] = f"{kind}:{file}"
    return tables
