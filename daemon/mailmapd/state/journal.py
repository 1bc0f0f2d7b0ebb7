"""The journal: what was forgotten since the state file was written, so that no start believes it again.

One line of JSON for each invalidation, on the disk before a flush returns. A line that does not end, or says nothing
that is understood, counts as everything: it may have been cut off by a crash, and nobody knows what it said. When a
new state file is in place, the lines that stood there before it was begun are taken out.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path

from mailmapd.engine.invalidation import Invalidation

MODE = 0o600


class Journal:
    """The lines in a file that may not be there. Every method may block, and raise OSError."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def add(self, invalidations: Iterable[Invalidation]) -> None:
        """Write invalidations down, and have them on the disk."""
        lines = "".join(json.dumps(invalidation.encode()) + "\n" for invalidation in invalidations)
        descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, MODE)
        with open(descriptor, "w", encoding="ascii") as stream:  # noqa: PTH123 (a descriptor)
            stream.write(lines)
            stream.flush()
            os.fsync(descriptor)

    def read(self) -> list[Invalidation]:
        """Return what was written down."""
        try:
            lines = self._path.read_bytes().split(b"\n")
        except FileNotFoundError:
            return []
        found = [_decoded(line) for line in lines[:-1]]
        if lines[-1]:
            found.append(Invalidation())
        return found

    def size(self) -> int:
        """Return how many bytes there are, for `cut`."""
        try:
            return self._path.stat().st_size
        except FileNotFoundError:
            return 0

    def cut(self, size: int) -> None:
        """Take the first `size` bytes out, because a state file without what they say is in place."""
        if size == 0:
            return
        rest = self._path.read_bytes()[size:]
        if not rest:
            self._path.unlink()
            return
        new = self._path.with_suffix(".new")
        new.write_bytes(rest)
        new.chmod(MODE)
        new.replace(self._path)


def _decoded(line: bytes) -> Invalidation:
    try:
        return Invalidation.decode(json.loads(line))
    except ValueError:
        return Invalidation()
