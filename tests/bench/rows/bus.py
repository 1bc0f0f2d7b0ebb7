"""Lookups on a host of a fleet (row 16): rows 1 and 3 with the bus carrying changes, beside a host that is alone.

Both daemons are full, and asked in turn for the same keys, at first until what a lookup costs has settled: a host that
joins a fleet trusts nothing that is older, and asks for each of these keys once more. While the one in the fleet is
asked, messages come through a server between hosts, as followers write them: `CHANGES` rows a second, each an entry
that is held and not asked for. The host that is alone has nothing to do meanwhile but to answer.
"""

from __future__ import annotations

import statistics
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from functools import partial

from redis import Redis

from bench import mailboxes
from bench.programs import Figures
from bench.report import Line, count, micros, times
from bench.rounds import Rounds, interleave, median_ratio
from bench.rows.memory import LONG, MAP, configuration
from bench.rows.pauses import ACTIVE_KEYS, SHORT_TTL
from bench.settling import settle
from bench.side import WARM_UP, ZIPF
from bench.workbench import BenchDaemon, Workbench
from mailmapd.changes.touched import Touched
from mailmapd.cluster.message import Codec, Message
from mailmapd.config.loader import load_config
from mailmapd.plan.assembly import plan
from mailmapd.state.table_digest import shared_digests
from support.process import wait_until
from support.valkey import Valkey

ROWS = (16,)
CHANGES = 1_000  # rows a second
APART = 0.011  # seconds between two messages, as a follower sends them
STREAM = "mailmapd"
MOST_FEWER = 0.05  # the part by which lookups may be fewer, and the slowest slower


class Follower:
    """Writes messages of changes for a daemon: entries from `ACTIVE_KEYS` on, one after the other, none twice."""

    def __init__(self, server: Valkey, daemon: BenchDaemon, entries: int) -> None:
        [self._digest] = shared_digests(plan(load_config(str(daemon.config)))).values()
        self._server = server
        self._entries = entries
        self._next = ACTIVE_KEYS
        self.changed: Counter[str] = Counter()

    @contextmanager
    def changing(self, stream: str) -> Iterator[None]:
        """Write until the end of the block."""
        stopping = threading.Event()
        thread = threading.Thread(target=self._run, args=(stream, stopping))
        thread.start()
        try:
            yield
        finally:
            stopping.set()
            thread.join()

    def _run(self, stream: str, stopping: threading.Event) -> None:
        codec, due, before = Codec(), 0.0, time.monotonic()
        with closing(Redis(unix_socket_path=str(self._server.socket))) as client:
            while not stopping.wait(APART):
                now = time.monotonic()
                due, before = due + (now - before) * CHANGES, now
                keys = {
                    mailboxes.address(number).encode()
                    for number in range(self._next, min(self._next + int(due), self._entries))
                }
                self._next, due = self._next + len(keys), due - int(due)
                self.changed[stream] += len(keys)
                message = Message("follower", "run", forget=Touched({self._digest: keys}))
                client.xadd(stream, codec.encode(message), maxlen=20_000)


def measure(bench: Workbench, _: set[int]) -> Iterator[Line]:
    """Yield the lines of row 16."""
    what = f"{count(CHANGES)} changes a second over the bus"
    rounds = _rounds(bench, 64, "lookups_per_s", LONG)
    ratio = median_ratio(rounds["fleet"], rounds["alone"])
    yield Line(
        16,
        f"64 connections, {count(bench.scale.entries)} entries, {what}: cached lookups",
        f"{count(round(statistics.median(rounds['fleet'])))}/s",
        f"alone {count(round(statistics.median(rounds['alone'])))}/s",
        times(ratio),
        f"≥ {1 - MOST_FEWER:g}",
        ratio >= 1 - MOST_FEWER,
    )
    ages = bench.draws.fresh("row 16, ages of entries")
    rounds = _rounds(bench, 16, "p999_us", SHORT_TTL, ages)
    ratio = median_ratio(rounds["fleet"], rounds["alone"])
    yield Line(
        16,
        f"16 connections, refresh-ahead and expiry running, {what}: p99.9",
        micros(statistics.median(rounds["fleet"])),
        f"alone {micros(statistics.median(rounds['alone']))}",
        times(ratio),
        f"≤ {1 + MOST_FEWER:g}",
        ratio <= 1 + MOST_FEWER,
    )


def _rounds(
    bench: Workbench, connections: int, figure: str, ttl: int, ages: int | None = None
) -> Rounds[float]:
    entries = bench.scale.entries
    config = configuration(bench.near, ttl, entries)
    keys = bench.draws.shuffled("row 16, keys", mailboxes.addresses(ACTIVE_KEYS))
    active = mailboxes.write_keys(bench.directory() / "active", keys)
    options = ["-c", str(connections), "-t", str(bench.scale.seconds), "-w", str(WARM_UP)]
    options += ["-z", f"{ZIPF:g}"]
    with ExitStack() as stack:
        server = stack.enter_context(Valkey(bench.directory()))
        cluster = f'[cluster]\nurl = "{server.url}"\nhost = "bench"\nstream = "{STREAM}"\n'
        alone = stack.enter_context(bench.daemon(config, entries=entries, spread=ages))
        fleet = stack.enter_context(bench.daemon(config + cluster, entries=entries, spread=ages))
        follower = Follower(server, fleet, entries)
        wait_until(lambda: bool(server.run("HEXISTS", f"{STREAM}:hosts", "bench")), "nobody joins")

        def ask(daemon: BenchDaemon, seed: int) -> Figures:
            socket = daemon.directory / "socketmap"
            with follower.changing(STREAM if daemon is fleet else "unread"):
                return bench.load(socket, active, MAP, options=[*options, "-s", str(seed)])

        def warm(daemon: BenchDaemon) -> float:
            return 1 / ask(daemon, bench.draws.fresh("row 16, warm-up"))["lookups_per_s"]

        settle({"alone": partial(warm, alone), "fleet": partial(warm, fleet)})
        changed = follower.changed[STREAM]
        found = interleave(
            bench.seeds("row 16"),
            {
                "alone": lambda seed: ask(alone, seed)[figure],
                "fleet": lambda seed: ask(fleet, seed)[figure],
            },
        )
        seconds = bench.scale.seconds * bench.scale.repetitions
        assert follower.changed[STREAM] - changed >= CHANGES * seconds / 2, "changes were too few"
        wait_until(
            lambda: _forgotten(fleet) >= follower.changed[STREAM], "changes are not carried out"
        )
    return found


def _forgotten(daemon: BenchDaemon) -> float:
    return daemon.metrics()['mailmapd_invalidations_total{grade="key",table="mailbox"}']
