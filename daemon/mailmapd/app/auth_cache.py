"""Dovecot's auth cache, as a part of the process."""

from __future__ import annotations

from collections.abc import Callable

from mailmapd.auth_cache.forgetting import AuthCache
from mailmapd.config.address import UnixAddress
from mailmapd.config.schema import Config
from mailmapd.engine.engine import Engine
from mailmapd.engine.invalidation import Invalidation


class DovecotCache:
    """Has the Dovecot that a configuration names forget with the engine in use; without one, nothing."""

    def __init__(self, engine: Callable[[], Engine], clock: Callable[[], float]) -> None:
        self._engine = engine
        self._clock = clock
        self._cache: AuthCache | None = None
        self._path = ""

    async def begin(self, config: Config) -> None:
        """Serve a configuration."""
        section = config.dovecot
        address = None if section is None else section.auth_master
        path = address.path if isinstance(address, UnixAddress) else ""
        if path == self._path:
            return
        await self.close()
        self._path = path
        if path:
            self._cache = AuthCache(path, self._engine, self._clock)
            self._cache.start()

    async def close(self) -> None:
        """End."""
        cache, self._cache, self._path = self._cache, None, ""
        if cache is not None:
            await cache.close()

    def forget(self, invalidation: Invalidation) -> None:
        """Have forgotten what was just forgotten here."""
        if self._cache is not None:
            self._cache.forget(invalidation)

    def problems(self) -> list[str]:
        """Return why it does not forget, if it does not."""
        if self._cache is None or not self._cache.failure:
            return []
        return [f"dovecot: its auth cache does not forget: {self._cache.failure}"]

    def state(self) -> tuple[bool, int] | None:
        """Return whether Dovecot answers, and how often it was asked; None where there is none."""
        return None if self._cache is None else (not self._cache.failure, self._cache.flushes)
