"""The publisher: tells the other hosts what this host's feeds hear.

What was touched gathers until it has been told, however long the server is away; where that is too much, all of the
tables is meant. A heartbeat goes out after it, in the same transaction, so that it vouches for nothing that
was not told. Sends are a few milliseconds apart, in which changes gather.

What was told to another server than the one that this host reads was not told: its connections may reach two, where
a name or a balancer leads to both. It is told again; and a heartbeat names the server at which it counts, so that
nobody relies on it who reads the other one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from mailmapd.changes.touched import Touched
from mailmapd.cluster.message import Codec, Hears, Message, split
from mailmapd.cluster.reader import Position
from mailmapd.cluster.server import Command, Server
from mailmapd.errors import ClusterError
from mailmapd.tasks import end_tasks

log = logging.getLogger(__name__)

HEARTBEAT = 0.5  # seconds between two heartbeats
APART = 0.01  # seconds between two sends, at least: one costs a quarter of a millisecond of the daemon's time
_RETRY = 0.25  # seconds until it is tried again


@dataclass(slots=True)
class _Order:
    """A flush that somebody waits for: its message's id once it was told, or why it was not."""

    message: Message
    before: list[Command] = field(default_factory=list)
    taken: bool = False
    identity: str = ""
    failure: str = ""


class Publisher:
    """Publishes as `host` in one `run` of the daemon, between `start` and `close`.

    `place` is up to where this host has read, and so at which server it must tell, `hears` what its feeds can vouch for
    at this moment. `commands` make the second level forget what was touched, in the same transaction; messages then say
    `second`.
    """

    def __init__(
        self,
        server: Server,
        codec: Codec,
        names: tuple[str, str],
        *,
        place: Callable[[], Position],
        hears: Callable[[], Mapping[str, Hears]],
        clock: Callable[[], float],
        commands: Callable[[Touched], list[Command]] = lambda _: [],
        second: str = "",
    ) -> None:
        self.sent = 0
        self.failure = ""  # why the others cannot be told now
        self._server = server
        self._codec = codec
        self._host, self._run_of_daemon = names
        self._place = place
        self._hears = hears
        self._clock = clock
        self._commands = commands
        self._second = second
        self._pending = Touched()
        self._orders: list[_Order] = []
        self._telling = asyncio.Lock()
        self._sending = Touched()
        self._began: dict[str, tuple[Hears, float]] = {}
        self._wanted = asyncio.Event()
        self._vouched = (
            False  # the last heartbeat spoke of something, so the others must hear when that ends
        )
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    def vouch_no_more(self) -> None:
        """Vouch for nothing from now on, because nobody tells this publisher any more what was touched."""
        self._hears = dict

    async def close(self) -> None:
        """Say what has not been said yet, and that this host vouches for nothing any more; end."""
        self.vouch_no_more()
        if self._task is None:
            return
        await end_tasks([self._task])
        try:
            await self._send()
        except ClusterError as error:
            log.debug("cluster: the last word was not heard: %s", error)

    def touched(self, touched: Touched) -> None:
        """Tell the others what was touched, by digests of tables, as soon as may be."""
        self._pending.add(touched)
        self._wanted.set()

    def beat(self) -> None:
        """Send a heartbeat now: what this host can vouch for has changed."""
        self._wanted.set()

    def is_untold(self, digest: str, sql_key: bytes) -> bool:
        """Return whether a key of a table was touched and the others may not have been told yet."""
        return any(
            digest in touched.whole
            or digest in touched.parts
            or sql_key in touched.keys.get(digest, ())
            for touched in (self._pending, self._sending)
            if touched
        )

    def began(self, database: str, hears: Hears) -> tuple[str, float]:
        """Return a message after which every change was told that `hears` vouches for, and a moment after it.

        An empty text as long as there is none.
        """
        before, moment = self._began.get(database, (hears, 0.0))
        return (before.since, moment) if _is_same(before, hears) else ("", 0.0)

    async def flush(self, request: Mapping[str, Any], touched: Touched | None = None) -> str:
        """Tell the others to flush; return the message's id. Raises ClusterError.

        The second level forgets what was `touched` here. What comes while another one is being told is told together: a
        panel may send hundreds at a time.
        """
        before = [] if touched is None else self._commands(touched)
        order = _Order(self._message(flush=request), before)
        self._orders.append(order)
        async with self._telling:
            if not order.taken:
                await self._tell()
        if order.failure:
            raise ClusterError(order.failure)
        return order.identity

    async def _tell(self) -> None:
        """Tell every order that waits."""
        orders, self._orders = self._orders, []
        try:
            told = await self._server.add(
                [self._codec.encode(order.message) for order in orders],
                [command for order in orders for command in order.before],
                self._place().history,
            )
        except ClusterError as error:
            for order in orders:
                order.taken, order.failure = True, str(error)
        except BaseException:
            self._orders = orders + self._orders  # the next one tells them
            raise
        else:
            self.sent += len(told)
            for order, identity in zip(orders, told, strict=True):
                order.taken, order.identity = True, identity

    async def _run(self) -> None:
        while True:
            try:
                async with asyncio.timeout(HEARTBEAT):
                    await self._wanted.wait()
            except TimeoutError:
                pass  # a heartbeat is due
            self._wanted.clear()
            try:
                await self._send()
            except ClusterError as error:
                self.failure = str(error)
                log.debug("cluster: not told yet: %s", error)
                await asyncio.sleep(_RETRY)
            except Exception:
                log.exception("cluster: a defect of mailmapd; changes are not told")
                await asyncio.sleep(HEARTBEAT)
            else:
                await asyncio.sleep(APART)

    async def _send(self) -> None:
        """Send what is pending, and a heartbeat after it."""
        pending, self._pending = self._pending, Touched()
        history = self._place().history
        # What is vouched for is what was heard until now: all of it is in `pending`, or was told before.
        hears = {
            name: replace(heard, since=self.began(name, heard)[0])
            for name, heard in self._hears().items()
        }
        messages = [self._message(forget=piece) for piece in split(pending)]
        if hears or self._vouched:
            if messages:
                messages[-1] = self._message(forget=messages[-1].forget, hears=hears)
            else:
                messages.append(self._message(hears=hears))
        if not messages:
            self.failure = ""  # nobody has to be told anything
            return
        self._sending = pending
        try:
            encoded = [self._codec.encode(message) for message in messages]
            identities = await self._server.add(encoded, self._commands(pending), history)
        except BaseException:
            self.touched(pending)
            raise
        finally:
            self._sending = Touched()
        now = self._clock()
        self._began = {
            name: self._began[name] if heard.since else (replace(heard, since=identities[-1]), now)
            for name, heard in hears.items()
        }
        self.sent += len(messages)
        self.failure = ""
        self._vouched = bool(hears)

    def _message(
        self,
        *,
        forget: Touched | None = None,
        flush: Mapping[str, Any] | None = None,
        hears: Mapping[str, Hears] | None = None,
    ) -> Message:
        place = self._place()
        history = "" if hears is None else place.history
        names = self._host, self._run_of_daemon
        return Message(*names, place.last_id, forget, flush, hears, self._second, history)


def _is_same(before: Hears, now: Hears) -> bool:
    """Return whether nothing has begun anew in between."""
    return (before.epoch, before.servers, before.tables) == (now.epoch, now.servers, now.tables)
