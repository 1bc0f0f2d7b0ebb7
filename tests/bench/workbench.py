"""The workbench: servers, peers and programs, each started when a row first needs it and ended with the run."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path

from bench import mailboxes, programs
from bench.draws import Draws
from bench.programs import Figures
from bench.scale import Scale
from bench.source import Source
from support.daemon import Daemon
from support.mariadb import MariaDB, private_directory
from support.process import ServerProcess, free_port
from support.stacks.stack import PASSWORD, USER

DATABASE = "s_bench"
BIG_BUFFERS = ("--innodb-buffer-pool-size=256M", "--innodb-log-file-size=64M")
NETWORK_MICROSECONDS = 500
"""The delay each way of the database behind a network: 1 ms for a question and its answer."""


class BenchDaemon(Daemon):
    """A daemon on one core, with a cache that is full from the start if wanted."""

    def __init__(
        self,
        directory: Path,
        config: str,
        *,
        source: Source,
        core: int | None,
        entries: int = 0,
        table: str = "mailbox",
        spread: int | None = None,
        forget: int | None = None,
    ) -> None:
        environment = {"PYTHONPATH": source.search_path}
        if spread is not None:
            environment["SPREAD_SEED"] = str(spread)
        super().__init__(directory, config, environment=environment)
        self._core = core
        self._entries = entries
        self._table = table
        self._spread = spread
        self._forget = forget

    def start(self) -> None:
        """Start the daemon and wait until every listener accepts connections."""
        command = [sys.executable, "-m", "mailmapd", "serve", "--config", str(self.config)]
        if self._entries:
            command = [
                sys.executable,
                "-m",
                "bench.filled_daemon",
                str(self.config),
                self._table,
                str(self._entries),
            ]
            command += [] if self._spread is None else ["--spread"]
            command += [] if self._forget is None else ["--forget", str(self._forget)]
        self._process = ServerProcess(command, self.log, cwd=self.directory, env=self._environment)
        self._process.wait_ready(self.accepts, "mailmapd")
        programs.pin(self._process.pid, self._core)


class Workbench:
    """Everything that rows share. Rows that need a server of their own put it below `directory()`.

    `sources` are the versions of mailmapd to measure, ours first; more than one in the rows that name a parent.
    """

    def __init__(
        self, scale: Scale, stack: ExitStack, draws: Draws, parent: str | None = None
    ) -> None:
        self.scale = scale
        self.draws = draws
        self._stack = stack
        self.sources = [Source.here()]
        if parent is not None:
            self.sources.append(Source.at(parent, self.directory()))
        cores = sorted(os.sched_getaffinity(0))
        self.server_core: int | None = cores[0] if len(cores) > 1 else None
        self.load_core: int | None = cores[1] if len(cores) > 1 else None
        self.programs = self.directory()

    def directory(self) -> Path:
        """Return a new empty directory that every account may enter; it is removed at the end."""
        return self._stack.enter_context(private_directory("mmb-"))

    @cached_property
    def mariadb(self) -> MariaDB:
        """A MariaDB with PostfixAdmin's tables."""
        server = self._stack.enter_context(MariaDB(self.directory(), settings=BIG_BUFFERS))
        mailboxes.postfixadmin(self.scale.mailboxes).create(server)
        return server

    @cached_property
    def near(self) -> Path:
        """MariaDB's own socket."""
        return self.mariadb.socket

    @cached_property
    def far(self) -> Path:
        """A socket that leads to MariaDB with a network in between."""
        here = self.directory() / "far.sock"
        command = [
            programs.build("delay_proxy", self.programs),
            str(here),
            str(self.near),
            str(NETWORK_MICROSECONDS),
        ]
        self.serve(command, here)
        return here

    @cached_property
    def floor(self) -> Path:
        """The socket of a server that answers without looking anything up."""
        here = self.directory() / "floor.sock"
        self.serve(
            [programs.build("echo_floor", self.programs), str(here), "socketmap"],
            here,
            core=self.server_core,
        )
        return here

    @cached_property
    def keys(self) -> Path:
        """The keys of the rows about memory: the address of every entry, the most asked first."""
        return self.write_keys(self.scale.entries)

    def write_keys(self, entries: int) -> Path:
        """Write the addresses of so many entries, the most asked first.

        Which those are is drawn: if they were the ones stored first, they would lie side by side in memory.
        """
        keys = self.draws.shuffled(f"keys of {entries} entries", mailboxes.addresses(entries))
        return mailboxes.write_keys(self.directory() / "keys", keys)

    def seeds(self, purpose: str) -> list[int]:
        """Return a fresh seed for each round."""
        return [self.draws.fresh(purpose) for _ in range(self.scale.repetitions)]

    def end_with_run(self, process: ServerProcess) -> None:
        """End a server with the run."""
        self._stack.callback(process.stop)

    def serve(
        self, command: Sequence[str], socket: Path, *, core: int | None = None
    ) -> ServerProcess:
        """Start a server that listens on a socket, and end it with the run."""
        process = ServerProcess(command, socket.with_suffix(".log"))
        self.end_with_run(process)
        process.wait_ready(socket.is_socket, Path(command[0]).name)
        programs.pin(process.pid, core)
        return process

    @contextmanager
    def daemon(
        self,
        config: str,
        *,
        source: Source | None = None,
        entries: int = 0,
        table: str = "mailbox",
        spread: int | None = None,
        forget: int | None = None,
        pinned: bool = True,
    ) -> Iterator[BenchDaemon]:
        """Run a daemon; `{directory}` in the configuration is its own folder, `{port}` a free port.

        Its `table` holds so many `entries` from the start.
        """
        folder = self.directory()
        text = config.replace("{directory}", str(folder)).replace("{port}", str(free_port()))
        with BenchDaemon(
            folder,
            text,
            source=source or self.sources[0],
            core=self.server_core if pinned else None,
            entries=entries,
            table=table,
            spread=spread,
            forget=forget,
        ) as daemon:
            yield daemon

    def load(
        self,
        socket: Path,
        keys: Path,
        *names: str,
        options: Sequence[str] = (),
        protocol: str = "socketmap",
    ) -> Figures:
        """Ask a server and return what was measured."""
        command = [
            programs.build("lookup_load", self.programs),
            *options,
            protocol,
            str(socket),
            str(keys),
            *names,
        ]
        return programs.figures(command, self.load_core)

    def write_cf(self, folder: Path, socket: Path) -> Path:
        """Write PostfixAdmin's .cf files for Postfix's own lookups and for mailmapd, with MariaDB at `socket`."""
        mailboxes.postfixadmin(0).write_cf(self.mariadb, folder)
        for file in folder.glob("*.cf"):
            file.write_text(
                file.read_text(encoding="utf-8").replace(str(self.near), str(socket)),
                encoding="utf-8",
            )
        return folder


def database_section(socket: Path) -> str:
    """Return the TOML of the database."""
    return f"""\
[database.mail]
driver = "mysql"
hosts = ["unix:{socket}"]
user = "{USER}"
password = '{PASSWORD}'
dbname = "{DATABASE}"
"""
