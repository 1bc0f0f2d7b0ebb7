"""Names that clients ask for and that the configuration does not have: mostly a slip of the pen in main.cf."""

from __future__ import annotations

import difflib
import logging
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass

log = logging.getLogger(__name__)

KEPT = 16  # names per listener; what a client makes up beyond them is counted only
RECENT = 600.0  # seconds after which a name that nobody asks for any more is forgotten

_PLAIN = re.compile(r"[\w.-]{1,64}", re.ASCII)


@dataclass
class _Asked:
    """A name that was asked for in vain: how often, when last, and what it may have been meant to be."""

    count: int
    last: float
    hint: str


class UnknownNames:
    """Counts the names that the clients of one listener asked for in vain. `kind` is ``map`` or ``dict``."""

    def __init__(self, kind: str, listener: str, clock: Callable[[], float]) -> None:
        self.total = 0
        self._kind = kind
        self._listener = listener
        self._clock = clock
        self._names: dict[str, _Asked] = {}

    def note(self, name: str, known: Collection[str]) -> None:
        """Count a lookup of a name that is not one of the known, and log it."""
        self.total += 1
        shown = name if _PLAIN.fullmatch(name) else ""  # whatever else it is, it is no slip
        now = self._clock()
        asked = self._names.get(shown)
        if asked is None:
            if len(self._names) >= KEPT and not self._drop_old(now):
                return
            asked = self._names[shown] = _Asked(0, now, _hint(shown, known))
        asked.count += 1
        asked.last = now
        log.warning(
            "listener %s: there is no %s %s%s",
            self._listener,
            self._kind,
            _quoted(shown),
            asked.hint,
        )

    def recent(self, known: Collection[str]) -> list[str]:
        """Return a line for each name that was asked for lately and still does not exist."""
        self._drop_old(self._clock())
        return [
            f"listener {self._listener}: there is no {self._kind} "
            f"{_quoted(name)}{asked.hint} "
            f"({asked.count} lookups)"
            for name, asked in self._names.items()
            if name not in known
        ]

    def _drop_old(self, now: float) -> bool:
        """Forget names that nobody asks for any more; return whether there were any."""
        old = [name for name, asked in self._names.items() if now - asked.last >= RECENT]
        for name in old:
            del self._names[name]
        return bool(old)


def _quoted(name: str) -> str:
    return f'"{name}"' if name else "of that name"


def _hint(name: str, known: Collection[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    if near:
        return f'; did you mean "{near[0]}"?'
    return f"; the configuration has {', '.join(sorted(known)[:8]) or 'none'}"
