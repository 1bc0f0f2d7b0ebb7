"""Private database servers inside of a kept system, below its /srv: each on a copy of data that the system holds."""

from __future__ import annotations

import itertools
import os
import shutil
from abc import abstractmethod
from pathlib import Path
from types import TracebackType

from support.kept_debian import KeptDebian
from support.sql_server import SqlServer

_NUMBERS = itertools.count()


class Inside:
    """A folder of the system for one server; `path` is how the system calls it. By process and number it is its own."""

    def __init__(self, system: KeptDebian, name: str) -> None:
        self.system = system
        self.path = f"/srv/{name}-{os.getpid()}-{next(_NUMBERS)}"

    @property
    def directory(self) -> Path:
        """Return how the folder is called outside."""
        return self.system.path(self.path)


class ServerInside(SqlServer):
    """A server of that kind, whatever it is beside that: name this first among the bases."""

    inside: Inside
    program: str
    account: str
    data: str
    """The data directory in the system that no server uses."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        super().__exit__(kind, error, trace)
        shutil.rmtree(self.directory, ignore_errors=True)

    @abstractmethod
    def options(self) -> list[str]:
        """Return the server's options for the next start, but for its places."""

    @abstractmethod
    def prepare(self) -> None:
        """Change the fresh data before the first start."""

    def start(self) -> None:
        """Start the server (again, on the same data, socket and port) and wait until it answers."""
        if self._process is None:
            self._make_directory()
        inside, system = self.inside.path, self.inside.system
        command = [
            *[self.program, "--no-defaults", f"--user={self.account}"],
            *[f"--datadir={inside}/data", f"--socket={inside}/{self.socket.name}"],
            *[f"--port={self.port}", "--bind-address=127.0.0.1"],
            *[f"--pid-file={inside}/{self.program}.pid", *self.options()],
        ]
        self._process = system.start(command, self.directory / f"{self.program}.log")
        self._process.wait_ready(self.answers, f"{self.program} in {system.folder.name}")

    def _make_directory(self) -> None:
        """Begin with fresh data, whatever an earlier test has left."""
        inside, system = self.inside.path, self.inside.system
        shutil.rmtree(self.directory, ignore_errors=True)
        system.run("install", "--directory", f"--owner={self.account}", inside)
        system.run("cp", "--archive", "--sparse=always", self.data, f"{inside}/data")
        self.prepare()
