"""The new maps: an engine of this process, or a running daemon over its socketmap socket."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Sequence
from typing import Protocol

from mailmapd.config.address import Address, TcpAddress
from mailmapd.engine.engine import Engine
from mailmapd.errors import MailmapdError
from mailmapd.model import NOT_FOUND, Answer, Found, PermFail, TempFail
from mailmapd.plan.assembly import Plan

_AT_ONCE = 16  # lookups under way at the same time
_PATIENCE = 120.0  # seconds for which one query is waited for


class NewMaps(Protocol):
    """Answers for the new configuration."""

    async def answers(self, name: str, keys: Sequence[bytes]) -> dict[bytes, Answer]:
        """Return the answer to each key of a map."""
        ...

    async def close(self) -> None:
        """Let go of all connections."""
        ...


def patient(planned: Plan) -> Plan:
    """Return the plan with databases that are waited for: a slow query is no difference, however many are under way."""
    databases = {
        name: dataclasses.replace(settings, query_timeout=_PATIENCE, queue_timeout=_PATIENCE)
        for name, settings in planned.databases.items()
    }
    return dataclasses.replace(planned, databases=databases)


class EngineMaps:
    """An engine without a daemon."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def answers(self, name: str, keys: Sequence[bytes]) -> dict[bytes, Answer]:
        """Ask many keys at once, as many Postfix processes would."""
        map_ = self._engine.maps[name]
        waiting = iter(keys)
        answers: dict[bytes, Answer] = {}

        async def ask() -> None:
            for key in waiting:
                answers[key], _ = await map_.answer(key)

        await asyncio.gather(*(ask() for _ in range(_AT_ONCE)))
        for key in keys:
            # Perhaps we asked too much at once: that is no difference
            if isinstance(answers[key], TempFail):
                answers[key], _ = await map_.answer(key)
        return answers

    async def close(self) -> None:
        """Close the databases."""
        await self._engine.close()


class SocketMaps:
    """A running daemon; one connection, with many requests on their way."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def answers(self, name: str, keys: Sequence[bytes]) -> dict[bytes, Answer]:
        """Ask in batches; the answers come in the order of the questions.

        Raises MailmapdError when the daemon is gone.
        """
        answers: dict[bytes, Answer] = {}
        try:
            reader, writer = await self._connect()
            for start in range(0, len(keys), _AT_ONCE):
                batch = keys[start : start + _AT_ONCE]
                writer.writelines(_netstring(name.encode() + b" " + key) for key in batch)
                await writer.drain()
                for key in batch:
                    answers[key] = await _read_answer(reader)
            # Perhaps we asked too much at once
            for key in [key for key in keys if isinstance(answers[key], TempFail)]:
                writer.write(_netstring(name.encode() + b" " + key))
                answers[key] = await _read_answer(reader)
        except (OSError, EOFError, ValueError) as error:
            raise MailmapdError(f"{self._address}: the daemon does not answer: {error}") from error
        return answers

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._streams is None:
            address = self._address
            if isinstance(address, TcpAddress):
                self._streams = await asyncio.open_connection(address.host, address.port)
            else:
                self._streams = await asyncio.open_unix_connection(address.path)
        return self._streams

    async def close(self) -> None:
        """Close the connection."""
        if self._streams is not None:
            self._streams[1].close()
            await self._streams[1].wait_closed()
            self._streams = None


def _netstring(data: bytes) -> bytes:
    return b"%d:%b," % (len(data), data)


async def _read_answer(reader: asyncio.StreamReader) -> Answer:
    length = await reader.readuntil(b":")
    reply = await reader.readexactly(int(length[:-1]) + 1)
    word, _, text = reply[:-1].partition(b" ")
    match word:
        case b"OK":
            return Found(text)
        case b"NOTFOUND":
            return NOT_FOUND
        case b"PERM":
            return PermFail(text.decode("utf-8", "replace"))
        case _:
            return TempFail(text.decode("utf-8", "replace"))
