"""The journal: what was forgotten since the state file was written, so that no start believes it again.

One line of JSON for each invalidation, on the disk before a flush returns. A line that does not end, or says nothing
that is understood, counts as everything: it may have been cut off by a crash, and nobody knows what it said. When a
new state file is in place, the lines that stood there before it was begun are taken out.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import TextIO

from mailmapd.engine.invalidation import Invalidation
from mailmapd.state.cache_file import CacheFileError
from mailmapd.state.state_file import Replacement, open_to_read

_MODE = 0o600
_ADD = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


class Journal:
    """The lines in a file that may not be there. Every method may block, and raise OSError."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def add(self, invalidations: Iterable[Invalidation]) -> None:
        """Write invalidations down, and have them on the disk."""
        lines = "".join(json.dumps(invalidation.encode()) + "\n" for invalidation in invalidations)
        with self._open_to_add() as stream:
            stream.write(lines)
            stream.flush()
            os.fsync(stream.fileno())

    def read(self) -> list[Invalidation]:
        """Return what was written down."""
        try:
            with open_to_read(self._path) as stream:
                lines = stream.read().split(b"\n")
        except FileNotFoundError:
            return []
        except CacheFileError:  # somebody else may have taken lines out
            return [Invalidation()]
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

    def remove(self) -> None:
        """Forget all of it, because there is no state file any more."""
        self._path.unlink(missing_ok=True)

    def cut(self, size: int) -> None:
        """Take the first `size` bytes out, because a state file without what they say is in place."""
        if size == 0:
            return
        rest = self._path.read_bytes()[size:]
        if not rest:
            self._path.unlink()
            return
        new = Replacement(self._path)
        try:
            new.stream.write(rest)
            new.flush()
            new.commit()
        except BaseException:
            new.discard()
            raise

    def _open_to_add(self) -> TextIO:
        """Open the file, or make it. Raises OSError for one that is none of ours, such as a link."""
        descriptor = os.open(self._path, _ADD, _MODE)
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_uid not in (0, os.geteuid()):
            os.close(descriptor)
            raise OSError(errno.EPERM, "is not a file of this user")
        os.fchmod(descriptor, _MODE)
        return os.fdopen(descriptor, "w", encoding="ascii")


def _decoded(line: bytes) -> Invalidation:
    try:
        return Invalidation.decode(json.loads(line))
    except ValueError:
        return Invalidation()
