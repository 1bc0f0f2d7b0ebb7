"""Sources: the mailmapd that is measured, and an earlier commit beside it, in the same rounds and on the same machine.

A commit brings its own tests/bench with it, because what fills a daemon's cache must know that daemon.
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from support.daemon import SOURCE
from support.process import ServerFailed

OURS = "mailmapd"
"""The name of the source that is measured."""


@dataclass(frozen=True)
class Source:
    """One version of the program: its package's folder and that of its tests."""

    name: str
    package: Path
    tests: Path

    @property
    def search_path(self) -> str:
        """Return the PYTHONPATH of a process of this version."""
        return f"{self.package}:{self.tests}"

    @classmethod
    def here(cls) -> Source:
        """Return the one that these measurements belong to."""
        return cls(OURS, SOURCE, Path(__file__).parents[1])

    @classmethod
    def at(cls, commit: str, folder: Path, repository: Path = SOURCE) -> Source:
        """Return the one of a commit, unpacked into an empty folder. Raises ServerFailed when there is none."""
        git = ["git", "-C", str(repository)]
        name = _output([*git, "rev-parse", "--short", f"{commit}^{{commit}}"]).decode().strip()
        top = _output([*git, "rev-parse", "--show-toplevel"]).decode().strip()
        archive = _output(["git", "-C", top, "archive", name, "daemon", "tests"])
        _output(["tar", "-x", "-C", str(folder)], archive)
        return cls(f"commit {name}", folder / "daemon", folder / "tests")


def _output(command: list[str], data: bytes = b"") -> bytes:
    done = subprocess.run(command, input=data, capture_output=True, check=False)
    if done.returncode != 0:
        raise ServerFailed(f"{' '.join(command)}: {done.stderr.decode().strip()}")
    return done.stdout
