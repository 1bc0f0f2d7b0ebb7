"""What the bus carries, and what its server keeps: the real publisher, codec and reader, and a real server.

For each rate, changes of one key each are handed to a publisher for a second, as a feed would, ten times a second or
as often as the rate asks. A reader then reads all of it. What is counted of each is processor time, of the server for
each reader: on their own machines none of them waits for another. A rate is carried when every key arrives by its
name, and none of the three needs more than a second for it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from redis import Redis

from bench import mailboxes
from mailmapd.changes.touched import Touched
from mailmapd.cluster.message import Codec, Hears, Message
from mailmapd.cluster.publisher import HEARTBEAT, Publisher
from mailmapd.cluster.reader import Position, Reader
from mailmapd.cluster.server import BATCH, Entry, Server
from mailmapd.cluster.settings import ClusterSettings
from support.valkey import Kind, Valkey

RATES = (1_000, 5_000, 20_000, 50_000)
SLICE = 0.01  # seconds between two turns of the changes
TABLES = tuple(f"{number:016x}" for number in range(8))
"""Digests of the tables of PostfixAdmin, which all have the key of a mailbox."""
READERS = 5
"""Readers over which the server's time is measured."""
FOLLOWERS = 3


@dataclass(frozen=True)
class Carried:
    """A rate of changes a second, and what a second of it costs: messages, bytes, and seconds of processor time."""

    rate: int
    messages: int
    bytes: int
    exact: bool
    publisher: float
    reader: float
    server: float
    server_for_reader: float

    def load_of_server(self, hosts: int) -> float:
        """Return the part of one core that the server needs for so many hosts."""
        return self.server + hosts * self.server_for_reader

    def carried(self, hosts: int) -> bool:
        """Return whether a fleet of so many hosts keeps up with it."""
        return self.exact and max(self.publisher, self.reader, self.load_of_server(hosts)) <= 1.0


@dataclass(frozen=True)
class Kept:
    """Memory of the server, in bytes: of the stream when it is full, and of a second level."""

    stream: int
    messages: int
    second_level: int
    answers: int


def measure_rates(kind: Kind, rates: Iterable[int] = RATES) -> list[Carried]:
    """Return what each rate costs."""
    with TemporaryDirectory() as folder, Valkey(Path(folder) / "s", kind=kind) as valkey:
        return [asyncio.run(_carry(valkey, rate)) for rate in rates]


async def _carry(valkey: Valkey, rate: int) -> Carried:
    valkey.run("FLUSHALL")
    server = Server(ClusterSettings(url=valkey.url, host="mx1", max_messages=1_000_000))
    codec = Codec()
    publisher = Publisher(
        server, codec, ("mx1", "run"), place=Position, hears=dict, clock=time.monotonic
    )
    server_before, began = _server_time(valkey), time.process_time()
    publisher.start()
    keys = [address.encode() for address in mailboxes.addresses(rate)]
    portion = max(1, round(rate * SLICE))
    started = time.monotonic()
    for number, start in enumerate(range(0, rate, portion)):
        for key in keys[start : start + portion]:
            publisher.touched(_touched(key))
        await asyncio.sleep(max(0.0, started + (number + 1) * SLICE - time.monotonic()))
    await publisher.close()
    publishing = time.process_time() - began
    server_publishing = _server_time(valkey) - server_before
    messages = int(valkey.run("XLEN", "mailmapd"))
    size = int(valkey.run("MEMORY", "USAGE", "mailmapd", "SAMPLES", "0"))
    server_before, began = _server_time(valkey), time.process_time()
    exact = False
    for _ in range(READERS):
        heard = await _read_all(server, codec, messages)
        exact = not heard.whole and all(heard.keys.get(table) == set(keys) for table in TABLES)
    reading = (time.process_time() - began) / READERS
    server_reading = (_server_time(valkey) - server_before) / READERS
    await server.close()
    return Carried(
        rate, messages, size, exact, publishing, reading, server_publishing, server_reading
    )


def _touched(key: bytes) -> Touched:
    touched = Touched()
    for table in TABLES:
        touched.add_key(table, key)
    return touched


async def _read_all(server: Server, codec: Codec, messages: int) -> Touched:
    """Return what so many messages say, from the beginning of the stream on."""
    heard = Touched()
    done = asyncio.Event()
    count = 0

    def hear(entries: list[Entry]) -> None:
        nonlocal count
        for _, fields in entries:
            message = codec.decode(fields)
            for table, keys in message.forget.keys.items() if message.forget is not None else ():
                heard.keys.setdefault(table, set()).update(keys)
            if message.forget is not None:
                heard.whole |= message.forget.whole
        count += len(entries)
        if count >= messages:
            done.set()

    _, condition = await server.check("0-0")
    reader = Reader(
        server,
        Position(history=condition.history),
        time.monotonic,
        heard=hear,
        proven=lambda _: None,
        missed=lambda _: None,
        changed=lambda _: None,
    )
    task = asyncio.create_task(reader.run())
    async with asyncio.timeout(300):
        await done.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return heard


def _server_time(valkey: Valkey) -> float:
    """Return the processor time that the server has used, in seconds."""
    used = valkey.run("INFO", "cpu")
    return float(used["used_cpu_user"]) + float(used["used_cpu_sys"])


def measure_memory(
    kind: Kind, changes: Sequence[dict[bytes, bytes]], answers: Sequence[tuple[bytes, bytes]]
) -> Kept:
    """Return what the server keeps of a day's changes among heartbeats, and of answers, each a name and a value."""
    with TemporaryDirectory() as folder, Valkey(Path(folder) / "s", kind=kind) as valkey:
        asyncio.run(_fill_stream(valkey, changes))
        stream = int(valkey.run("MEMORY", "USAGE", "mailmapd", "SAMPLES", "0"))
        messages = int(valkey.run("XLEN", "mailmapd"))
        before = int(valkey.run("INFO", "memory")["used_memory"])
        with closing(Redis(unix_socket_path=str(valkey.socket), protocol=2)) as client:
            for start in range(0, len(answers), BATCH):
                pipeline = client.pipeline(transaction=False)
                for name, value in answers[start : start + BATCH]:
                    pipeline.set(name, value, px=86_400_000)
                pipeline.execute()
        after = int(valkey.run("INFO", "memory")["used_memory"])
        return Kept(stream, messages, after - before, len(answers))


async def _fill_stream(valkey: Valkey, changes: Sequence[dict[bytes, bytes]]) -> None:
    """Add a day's messages until the stream is full and shorter again: changes, evenly among the heartbeats."""
    settings = ClusterSettings(url=valkey.url, host="mx1")
    server, codec = Server(settings), Codec()
    hears = {"mail": Hears(1, 0.2, frozenset({"0" * 16}), frozenset(TABLES))}
    beats = [
        codec.encode(Message(f"mx{number}", "0" * 16, hears=hears)) for number in range(FOLLOWERS)
    ]
    each = round(86_400 / HEARTBEAT) // max(len(changes), 1)
    number = 0
    while number < settings.max_messages:
        batch: list[dict[bytes, bytes]] = []
        for _ in range(100):
            batch += beats
            number += len(beats)
            if changes and (number // len(beats)) % max(each, 1) == 0:
                batch.append(changes[(number // len(beats)) // max(each, 1) % len(changes)])
        await server.add(batch)
    await server.close()
