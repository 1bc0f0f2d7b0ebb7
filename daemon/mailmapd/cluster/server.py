"""The server that carries the stream: Valkey or Redis, by way of redis-py, whose errors end here.

Two connections at most are used: one waits for messages, the other sends. Every call has a deadline, and none is
repeated: who calls knows what to do about a failure. `check` reads and looks in one transaction, so that what it says
of the stream is true of one moment:

    MULTI
    XREAD COUNT n STREAMS stream id
    XINFO STREAM stream                 last-generated-id, entries-added (Redis 7.0, every Valkey)
    INFO replication                    role, master_replid
    EXEC
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

from redis.asyncio import Redis
from redis.exceptions import NoScriptError, ReadOnlyError, RedisError, ResponseError

from mailmapd.cluster.connections import Connections
from mailmapd.cluster.replies import MOST_ELEMENTS
from mailmapd.cluster.scripts import ELSEWHERE, Script
from mailmapd.cluster.settings import ClusterSettings
from mailmapd.errors import ClusterError

ANSWER = 1.0  # seconds in which a command is answered
_MOST_OF_HOSTS = 1024 * 1024  # bytes of all hosts' records
_NO_ID = "0-0"  # which no message may have: the server says so when it would take any other
BATCH = 100  # messages that are read at once

Entry = tuple[str, Mapping[bytes, bytes]]
"""A message of the stream: its id, and its fields."""

Command = tuple[str | bytes | int, ...]
"""A command, in words."""


P = ParamSpec("P")
T = TypeVar("T")

_ODD = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""Errors that come of an answer which has not the form that the library, or we, expect."""


class Elsewhere(ClusterError):
    """A connection has reached a server that is none of those meant: a replica, or one with another history."""


class AtReplica(Elsewhere):
    """A connection has reached a replica."""


def _understood(
    method: Callable[Concatenate[Server, P], Awaitable[T]],
) -> Callable[Concatenate[Server, P], Coroutine[Any, Any, T]]:
    """Have a method raise ClusterError for an answer that is none of the server's, and leave a replica."""

    @wraps(method)
    async def called(server: Server, /, *values: P.args, **named: P.kwargs) -> T:
        try:
            return await method(server, *values, **named)
        except ClusterError as error:
            if isinstance(error, AtReplica) or isinstance(error.__cause__, ReadOnlyError):
                await server.leave()
                raise AtReplica(f"{server.place}: is a replica, not the primary") from error
            raise
        except _ODD as error:
            text = f"{server.place}: an answer that is none of Valkey or Redis ({type(error).__name__})"
            raise ClusterError(text) from error

    return called


@dataclass(frozen=True, slots=True)
class Condition:
    """The stream at one moment: the last id, the number of messages it ever had, and whose history that is."""

    last_id: str = "0-0"
    added: int = 0
    history: str = ""


class Server:
    """The server of `settings`. Every method raises ClusterError and nothing else; `close` ends its connections."""

    def __init__(self, settings: ClusterSettings) -> None:
        self._settings = settings
        self._connections = Connections(settings)
        self._redis = self._connections.client()
        # Reads go over one connection, so that nothing is read from another server than was looked at
        self._reading = self._connections.client(1, redis_connect_func=self._has_begun_to_read)
        self._begun = 0  # connections to read
        self._looked_at = 0  # the one of them over which the stream was looked at

    async def close(self) -> None:
        """End every connection."""
        for client in (self._redis, self._reading, *self._connections.sentinels()):
            await _close(client)

    @property
    def place(self) -> str:
        """Return where the server is, for messages."""
        return self._settings.place

    async def disconnect(self) -> None:
        """End every connection; the next command opens another one, perhaps to another server."""
        await _renew(self._redis)

    @_understood
    async def add(
        self,
        messages: Iterable[Mapping[bytes, bytes]],
        before: Iterable[Command] = (),
        history: str = "",
    ) -> list[str]:
        """Carry out commands and add messages, all or none of them, in order; return the messages' ids.

        Raises Elsewhere when that was done at a server with another `history`.
        """
        settings = self._settings
        pipeline = self._redis.pipeline(transaction=True)
        for command in before:
            pipeline.execute_command(*command)
        added = len(pipeline)
        for message in messages:
            fields: Any = dict(message)
            pipeline.xadd(settings.stream, fields, maxlen=settings.max_messages, approximate=True)
        return [
            identity.decode() for identity in (await self._execute_at(pipeline, history))[added:]
        ]

    @_understood
    async def carry_out(self, commands: Iterable[Command], history: str = "") -> None:
        """Carry out commands, all or none of them, in order.

        Raises Elsewhere when that was done at a server with another `history`.
        """
        pipeline = self._redis.pipeline(transaction=True)
        for command in commands:
            pipeline.execute_command(*command)
        await self._execute_at(pipeline, history)

    @_understood
    async def evaluate(
        self,
        script: Script,
        keys: Sequence[bytes],
        arguments: Sequence[bytes | str | int],
        history: str = "",
    ) -> Any:
        """Return what a script says.

        Raises Elsewhere, and nothing is done, at a replica or a server with another `history`.
        """
        given: list[Any] = [len(keys), *keys, history, *arguments]
        try:
            try:
                return await self._answer(self._redis.evalsha(script.digest, *given))
            except ClusterError as error:
                if not isinstance(error.__cause__, NoScriptError):
                    raise
            return await self._answer(self._redis.eval(script.text, *given))
        except ClusterError as error:
            if str(error.__cause__).startswith(ELSEWHERE):
                await self.disconnect()
                raise Elsewhere(f"{self.place}: connections reach different servers") from error
            raise

    @_understood
    async def memory(self) -> tuple[int, int]:
        """Return how many bytes the server uses, and how many it may use at most, 0 without a limit."""
        facts = await self._answer(self._redis.info("memory"))
        return int(facts.get("used_memory", 0)), int(facts.get("maxmemory", 0))

    @_understood
    async def read(self, after: str, patience: float, count: int) -> list[Entry]:
        """Return messages behind an id, as soon as there is one, or none when `patience` (in seconds) is over.

        Raises Elsewhere when they may be of another server than `check` has looked at.
        """
        wait = round(patience * 1000)
        call = self._reading.xread({self._settings.stream: after}, count=count, block=wait)
        entries = _entries(await self._answer(call, patience + ANSWER))
        if self._begun != self._looked_at:
            raise Elsewhere(f"{self.place}: connected anew, perhaps to another server")
        return entries

    @_understood
    async def check(self, after: str, count: int = BATCH) -> tuple[list[Entry], Condition]:
        """Return messages behind an id, `count` at most, and how the stream is at that very moment."""
        place = self._settings.place
        pipeline = self._reading.pipeline(transaction=True)
        pipeline.xread({self._settings.stream: after}, count=count)
        pipeline.xinfo_stream(self._settings.stream)
        pipeline.info("replication")
        found, stream, replication = await self._answer(pipeline.execute(raise_on_error=False))
        missing = isinstance(stream, ResponseError) and "no such key" in str(stream)
        for said in (found, replication, None if missing else stream):
            if isinstance(said, Exception):
                raise ClusterError(f"{place}: {said}") from said
        history = self._history_of_primary(replication)
        self._looked_at = self._begun
        if missing:
            return [], Condition(history=history)
        if "entries-added" not in stream:
            raise ClusterError(f"{place}: is too old; Redis 7.0, or any Valkey, is needed")
        last = stream["last-generated-id"].decode()
        return _entries(found), Condition(last, int(stream["entries-added"]), history)

    @_understood
    async def compare(self, history: str) -> str:
        """See by new connections, one to each address, which primary is reached; leave the one that is read for it.

        Return why, or nothing when it is the one that is read, or when none is reached.
        """
        try:
            clients = await self._connections.each()
        except OSError as error:
            raise ClusterError(f"{self.place}: {error.strerror or error}") from error
        for client in clients:
            try:
                replication = await self._answer(client.info("replication"))
                reached = self._history_of_primary(replication)
            except ClusterError:
                continue  # the next address may be that of the primary
            finally:
                await _close(client)
            if reached == history:
                return ""
            self._connections.prefer(client)
            await self._disconnect_all()
            return f"{self.place}: new connections reach another server than the one that was read"
        return ""

    @_understood
    async def try_to_write(self) -> None:
        """See that messages and records may be written; nobody ever reads one that this writes."""
        settings = self._settings
        pipeline = self._redis.pipeline(transaction=True)
        pipeline.hset(settings.members, "", "")
        pipeline.hdel(settings.members, "")
        pipeline.execute_command("XADD", settings.stream, _NO_ID, "m", "")
        *_, answer = await self._answer(pipeline.execute(raise_on_error=False))
        if _NO_ID not in str(answer):
            raise ClusterError(f"{self.place}: {answer}")

    @_understood
    async def write_member(self, host: str, record: bytes) -> bytes:
        """Write a host's record; return the one before, or nothing."""
        pipeline = self._redis.pipeline(transaction=True)
        pipeline.hget(self._settings.members, host)
        pipeline.hset(self._settings.members, host, record)
        before, _ = await self._answer(pipeline.execute())
        return bytes(before or b"")

    @_understood
    async def remove_members(self, hosts: Iterable[str]) -> None:
        """Forget hosts."""
        await self._answer(self._redis.hdel(self._settings.members, *hosts))

    @_understood
    async def members(self) -> dict[str, bytes]:
        """Return every host's record."""
        settings = self._settings
        found = await self._answer(self._redis.hgetall(settings.members))
        if len(found) * 2 >= MOST_ELEMENTS or sum(map(len, found.values())) > _MOST_OF_HOSTS:
            raise ClusterError(f"{settings.place}: too many hosts are in {settings.members}")
        return {host.decode("utf-8", "replace"): bytes(record) for host, record in found.items()}

    @_understood
    async def facts(self) -> Mapping[str, Any]:
        """Return what the server says of itself, for `check`."""
        facts: Mapping[str, Any] = await self._answer(self._redis.info())
        return facts

    @_understood
    async def may_configure(self) -> bool:
        """Return whether the account may do what only an administrator needs."""
        try:
            await self._answer(self._redis.config_get("maxmemory-policy"))
        except ClusterError:
            return False
        return True

    async def _execute_at(self, pipeline: Any, history: str) -> list[Any]:
        """Execute what must be done at the primary, with this `history` if there is one; return the answers."""
        pipeline.info("replication")
        answers: list[Any] = await self._answer(pipeline.execute(raise_on_error=False))
        for answer in answers:
            if isinstance(answer, Exception):
                raise ClusterError(f"{self.place}: {answer}") from answer
        reached = self._history_of_primary(answers.pop())
        if history and reached != history:
            await self.disconnect()
            raise Elsewhere(f"{self.place}: connections reach different servers")
        return answers

    async def leave(self) -> None:
        """Leave a server that is not the primary: a name, or another address of it, may lead to that."""
        self._connections.leave()
        await self._disconnect_all()

    def _history_of_primary(self, replication: Mapping[str, Any]) -> str:
        """Return whose history a server has. Raises AtReplica for that of a replica."""
        if replication.get("role") != "master":
            raise AtReplica(f"{self.place}: is a replica, not the primary")
        return str(replication.get("master_replid", ""))

    async def _disconnect_all(self) -> None:
        await self.disconnect()
        await _renew(self._reading)

    async def _has_begun_to_read(self, connection: Any) -> None:
        """Note a new connection over which the stream is read."""
        await connection.on_connect()
        self._begun += 1

    async def _answer(self, call: Any, seconds: float = ANSWER) -> Any:
        """Return what a call of the library answers in time. Raises ClusterError.

        A new connection has its own deadlines, with each Sentinel that is asked before: they come first, because a call
        that is cut off while it connects leaves a socket to the garbage collector.
        """
        place = self._settings.place
        try:
            async with asyncio.timeout(seconds + self._connections.seconds):
                return await call
        except TimeoutError:
            raise ClusterError(f"{place}: no answer for {seconds:g} s") from None
        except RedisError as error:
            raise ClusterError(f"{place}: {str(error) or type(error).__name__}") from error
        except OSError as error:
            raise ClusterError(f"{place}: {error.strerror or error}") from error


async def _renew(client: Redis) -> None:
    """End the connections of a client: those that are used as soon as they are not.

    None that somebody else has taken, or takes meanwhile: what he has connected anew would be lost, and stay open.
    """
    pool = client.connection_pool
    await pool.update_active_connections_for_reconnect()
    number = len(pool._available_connections)  # noqa: SLF001  (the library tells it nobody otherwise)
    idle = [pool.get_available_connection() for _ in range(number)]
    for connection in idle:
        try:
            await connection.disconnect()
        finally:
            await pool.release(connection)


async def _close(client: Redis) -> None:
    with suppress(RedisError, OSError):  # it is closed all the same
        await client.aclose(close_connection_pool=True)


def _entries(found: Any) -> list[Entry]:
    return [
        (identity.decode(), fields or {})
        for _, entries in found or ()
        for identity, fields in entries
    ]
