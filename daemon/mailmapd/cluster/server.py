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
from dataclasses import dataclass
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar
from urllib.parse import unquote, urlsplit

from redis.asyncio import (
    BlockingConnectionPool,
    Connection,
    Redis,
    SSLConnection,
    UnixDomainSocketConnection,
)
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel, SentinelManagedConnection
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError, ResponseError

from mailmapd.cluster.replies import MOST_ELEMENTS, Replies
from mailmapd.cluster.scripts import Script
from mailmapd.cluster.settings import ClusterSettings
from mailmapd.databases.mysql.account import TlsContexts
from mailmapd.databases.settings import TlsSettings
from mailmapd.errors import ClusterError

CONNECT = 1.0  # seconds for a connection, and for the login on it
ANSWER = 1.0  # seconds in which a command is answered
BATCH = 100  # messages that are read at once
_CONNECTIONS = 8  # beside the one that waits for messages; who finds none free waits for one

Entry = tuple[str, Mapping[bytes, bytes]]
"""A message of the stream: its id, and its fields."""

Command = tuple[str | bytes | int, ...]
"""A command, in words."""


P = ParamSpec("P")
T = TypeVar("T")

_ODD = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""Errors that come of an answer which has not the form that the library, or we, expect."""


def _understood(
    method: Callable[Concatenate[Server, P], Awaitable[T]],
) -> Callable[Concatenate[Server, P], Coroutine[Any, Any, T]]:
    """Have a method raise ClusterError for an answer that is none of the server's."""

    @wraps(method)
    async def called(server: Server, /, *values: P.args, **named: P.kwargs) -> T:
        try:
            return await method(server, *values, **named)
        except _ODD as error:
            text = f"{server.place}: an answer that is none of Valkey or Redis ({type(error).__name__})"
            raise ClusterError(text) from error

    return called


class Encrypted(SSLConnection):  # type: ignore[misc]  # redis-py has no types
    """A connection with a TLS context of ours. The library's own trusts the system's authorities beside any named."""

    def __init__(self, *, contexts: TlsContexts, tls: TlsSettings, **options: Any) -> None:
        super().__init__(**options)
        self._contexts = contexts
        self._tls = tls

    def _connection_arguments(self) -> Mapping[str, Any]:
        arguments = super(SSLConnection, self)._connection_arguments()
        return {**arguments, "ssl": self._contexts.of(self._tls)}


class EncryptedBySentinel(SentinelManagedConnection, Encrypted):  # type: ignore[misc]
    """The same to whichever server the Sentinels name."""


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
        self._sentinel: Sentinel | None = None
        self._connecting = CONNECT * (1 + 2 * len(settings.sentinels))
        self._contexts = TlsContexts()
        self._redis = self._client()

    async def close(self) -> None:
        """End every connection."""
        clients = [self._redis]
        if self._sentinel is not None:
            clients += self._sentinel.sentinels
        for client in clients:
            try:
                await client.aclose(close_connection_pool=True)
            except (RedisError, OSError):
                continue  # it is closed all the same

    @property
    def place(self) -> str:
        """Return where the server is, for messages."""
        return self._settings.place

    async def disconnect(self) -> None:
        """End every connection; the next command opens another one, perhaps to another server."""
        await self._redis.connection_pool.disconnect()

    @_understood
    async def add(
        self, messages: Iterable[Mapping[bytes, bytes]], before: Iterable[Command] = ()
    ) -> list[str]:
        """Carry out commands and add messages, all or none of them, in order; return the messages' ids."""
        settings = self._settings
        pipeline = self._redis.pipeline(transaction=True)
        for command in before:
            pipeline.execute_command(*command)
        added = len(pipeline)
        for message in messages:
            fields: Any = dict(message)
            pipeline.xadd(settings.stream, fields, maxlen=settings.max_messages, approximate=True)
        answers = await self._execute(pipeline)
        return [identity.decode() for identity in answers[added:]]

    @_understood
    async def carry_out(self, commands: Iterable[Command]) -> None:
        """Carry out commands, all or none of them, in order."""
        pipeline = self._redis.pipeline(transaction=True)
        for command in commands:
            pipeline.execute_command(*command)
        await self._execute(pipeline)

    @_understood
    async def evaluate(
        self, script: Script, keys: Sequence[bytes], arguments: Sequence[bytes | str | int]
    ) -> Any:
        """Return what a script says."""
        given: list[Any] = [len(keys), *keys, *arguments]
        try:
            return await self._answer(self._redis.evalsha(script.digest, *given))
        except ClusterError as error:
            if not isinstance(error.__cause__, NoScriptError):
                raise
        return await self._answer(self._redis.eval(script.text, *given))

    @_understood
    async def memory(self) -> tuple[int, int]:
        """Return how many bytes the server uses, and how many it may use at most, 0 without a limit."""
        facts = await self._answer(self._redis.info("memory"))
        return int(facts.get("used_memory", 0)), int(facts.get("maxmemory", 0))

    @_understood
    async def read(self, after: str, patience: float, count: int) -> list[Entry]:
        """Return messages behind an id, as soon as there is one, or none when `patience` (in seconds) is over."""
        wait = round(patience * 1000)
        call = self._redis.xread({self._settings.stream: after}, count=count, block=wait)
        return _entries(await self._answer(call, patience + ANSWER))

    @_understood
    async def check(self, after: str, count: int = BATCH) -> tuple[list[Entry], Condition]:
        """Return messages behind an id, `count` at most, and how the stream is at that very moment."""
        place = self._settings.place
        pipeline = self._redis.pipeline(transaction=True)
        pipeline.xread({self._settings.stream: after}, count=count)
        pipeline.xinfo_stream(self._settings.stream)
        pipeline.info("replication")
        found, stream, replication = await self._answer(pipeline.execute(raise_on_error=False))
        missing = isinstance(stream, ResponseError) and "no such key" in str(stream)
        for said in (found, replication, None if missing else stream):
            if isinstance(said, Exception):
                raise ClusterError(f"{place}: {said}") from said
        if replication.get("role") != "master":
            raise ClusterError(f"{place}: is a replica, not the primary")
        history = str(replication.get("master_replid", ""))
        if missing:
            return [], Condition(history=history)
        if "entries-added" not in stream:
            raise ClusterError(f"{place}: is too old; Redis 7.0, or any Valkey, is needed")
        last = stream["last-generated-id"].decode()
        return _entries(found), Condition(last, int(stream["entries-added"]), history)

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
        if len(found) * 2 >= MOST_ELEMENTS:
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

    async def _execute(self, pipeline: Any) -> list[Any]:
        answers: list[Any] = await self._answer(pipeline.execute(raise_on_error=False))
        for answer in answers:
            if isinstance(answer, Exception):
                raise ClusterError(f"{self.place}: {answer}") from answer
        return answers

    async def _answer(self, call: Any, seconds: float = ANSWER) -> Any:
        """Return what a call of the library answers in time. Raises ClusterError.

        A new connection has its own deadlines, with each Sentinel that is asked before: they come first, because a call
        that is cut off while it connects leaves a socket to the garbage collector.
        """
        place = self._settings.place
        try:
            async with asyncio.timeout(seconds + self._connecting):
                return await call
        except TimeoutError:
            raise ClusterError(f"{place}: no answer for {seconds:g} s") from None
        except RedisError as error:
            raise ClusterError(f"{place}: {str(error) or type(error).__name__}") from error
        except OSError as error:
            raise ClusterError(f"{place}: {error.strerror or error}") from error

    def _client(self) -> Redis:
        settings = self._settings
        common: dict[str, Any] = {
            "password": settings.password or None,
            "username": settings.user,
            "socket_connect_timeout": CONNECT,
            "socket_timeout": None,  # each call has its own deadline
            "retry": Retry(NoBackoff(), 0),
            "protocol": 2,
            "parser_class": Replies,
            "driver_info": None,  # no CLIENT SETINFO, which Redis 7.0 does not know, nor a least account may
        }
        if settings.sentinels:
            return self._by_sentinels(common)
        if settings.url.startswith("unix:"):
            path = settings.url.removeprefix("unix:")
            pool = self._pool(UnixDomainSocketConnection, path=path, **common)
            return Redis(connection_pool=pool)
        url = urlsplit(settings.url)
        common |= {
            "host": url.hostname or "localhost",
            "port": url.port or 6379,
            "db": int(url.path.strip("/") or 0),
            "socket_keepalive": True,
        }
        if url.username:
            common["username"] = unquote(url.username)
        kind: type[Connection] = Connection
        if url.scheme == "rediss" or settings.tls is not None:
            kind = Encrypted
            common |= self._tls(settings.tls or TlsSettings())
        return Redis(connection_pool=self._pool(kind, **common))

    @staticmethod
    def _pool(kind: type[Connection], **options: Any) -> BlockingConnectionPool:
        return BlockingConnectionPool(
            connection_class=kind, max_connections=_CONNECTIONS, timeout=ANSWER, **options
        )

    def _by_sentinels(self, common: dict[str, Any]) -> Redis:
        settings = self._settings
        asked: dict[str, Any] = {
            "password": settings.sentinel_password or None,
            "socket_connect_timeout": CONNECT,
            "socket_timeout": ANSWER,
            "retry": Retry(NoBackoff(), 0),
            "protocol": 2,
            "parser_class": Replies,
            "driver_info": None,
        }
        kind: type[Connection] = Connection
        if settings.tls is not None:
            kind = Encrypted
            asked |= self._tls(settings.tls)
            common |= self._tls(settings.tls) | {"connection_class": EncryptedBySentinel}
        sentinel = self._sentinel = Sentinel((), sentinel_kwargs={}, **common)
        for place in settings.sentinels:
            host, _, port = place.rpartition(":")
            pool = self._pool(kind, host=host.strip("[]"), port=int(port), **asked)
            sentinel.sentinels.append(Redis(connection_pool=pool))
        return sentinel.master_for(settings.service)

    def _tls(self, tls: TlsSettings) -> dict[str, Any]:
        return {"contexts": self._contexts, "tls": tls}


def _entries(found: Any) -> list[Entry]:
    return [
        (identity.decode(), fields or {})
        for _, entries in found or ()
        for identity, fields in entries
    ]
