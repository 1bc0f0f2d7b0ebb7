"""One file that is written again and again, for parsers that read a path.

In memory where the system has a place for that.
"""

from __future__ import annotations

import atexit
import shutil
import tempfile
from pathlib import Path

MEMORY = Path("/dev/shm")


class ScratchFile:
    """A file alone in a folder that ends with the process."""

    def __init__(self, name: str) -> None:
        folder = Path(tempfile.mkdtemp(prefix="mmd-", dir=MEMORY if MEMORY.is_dir() else None))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        self.path = folder / name

    def holding(self, data: bytes) -> Path:
        """Return the path, with these bytes as the file's content."""
        self.path.write_bytes(data)
        return self.path
