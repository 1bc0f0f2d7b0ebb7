"""State files: opened only when nobody else can have written them, replaced in one step, set aside if damaged.

The cached answers in such a file decide where mail goes, so a file that another user owns or may write to is not read.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from mailmapd.state.cache_file import CacheFileError

_BUFFER = 1024 * 1024  # bytes


def open_to_read(path: Path) -> BinaryIO:
    """Open the file. Raises OSError, and CacheFileError when somebody else may have written it."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    found = os.fstat(descriptor)
    if (
        not stat.S_ISREG(found.st_mode)
        or found.st_uid not in (0, os.geteuid())
        or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    ):
        os.close(descriptor)
        raise CacheFileError("is not a file that only this user can write")
    return os.fdopen(descriptor, "rb", buffering=_BUFFER)


class Replacement:
    """A new version of a file, written beside it.

    `commit` puts it in its place, `discard` gives it up. Every method may raise OSError.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._new = path.with_name(path.name + ".new")
        self._new.unlink(missing_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        self.stream = os.fdopen(os.open(self._new, flags, 0o600), "wb", buffering=_BUFFER)

    def flush(self) -> None:
        """Make sure that all of it is on the disk."""
        self.stream.flush()
        os.fsync(self.stream.fileno())

    def commit(self) -> None:
        """Put the new version in the place of the old one, so that a crash leaves one of the two."""
        self.stream.close()
        self._new.replace(self._path)
        folder = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def discard(self) -> None:
        """Remove the new version."""
        with suppress(OSError):  # what could not be written before cannot be written now
            self.stream.close()
        self._new.unlink(missing_ok=True)


def set_aside(path: Path) -> Path:
    """Rename the file to NAME.bad and return that path. Raises OSError."""
    return path.replace(path.with_name(path.name + ".bad"))
