"""The real daemon as a child process: `python -m mailmapd serve --config FILE`, with its log kept.

with Daemon(directory, TOML) as daemon:
    daemon.socketmap().ask("virtual_alias_maps", b"postmaster@example.com")
    daemon.command("query", "virtual_alias_maps", "postmaster@example.com")
    daemon.metrics()["mailmapd_build_info{…}"]
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import tomllib
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import mailmapd
from mailmapd.control.client import ControlClient
from support.clients import SocketmapClient, TcpTableClient, connect
from support.process import ServerFailed, ServerProcess

SOURCE = Path(mailmapd.__file__).parents[1]


class Daemon:
    """A running mailmapd; the configuration is written to `directory`/mailmapd.toml."""

    def __init__(
        self, directory: Path, config: str, *, environment: Mapping[str, str] | None = None
    ) -> None:
        self.directory = directory
        self.config = directory / "mailmapd.toml"
        self.log = directory / "mailmapd.log"
        search_path = os.pathsep.join(filter(None, (str(SOURCE), os.environ.get("PYTHONPATH"))))
        self._environment = (
            os.environ
            | {"PYTHONPATH": search_path, "PYTHONUNBUFFERED": "1"}
            | dict(environment or {})
        )
        self._process: ServerProcess | None = None
        self.write_config(config)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._process is not None and self._process.running():
            self._process.stop(signal.SIGTERM if kind is None else signal.SIGKILL)

    def write_config(self, config: str) -> None:
        """Replace the configuration file; SIGHUP makes the daemon read it."""
        self.config.write_text(config)
        self.listeners = tomllib.loads(config)["listen"]

    def addresses(self) -> Iterator[str]:
        """Yield the address of every configured listener."""

        def walk(value: Any) -> Iterator[str]:
            match value:
                case str():
                    yield value
                case {"address": str(address)}:
                    yield address
                case dict():
                    for item in value.values():
                        yield from walk(item)
                case list():
                    for item in value:
                        yield from walk(item)
                case _:
                    raise TypeError(f"not an address: {value!r}")

        return walk(
            {
                name: value
                for name, value in self.listeners.items()
                if name not in ("allow_remote", "webhook_token_file")
            }
        )

    def start(self) -> None:
        """Start the daemon and wait until every listener accepts connections."""
        command = [sys.executable, "-m", "mailmapd", "serve", "--config", str(self.config)]
        self._process = ServerProcess(command, self.log, cwd=self.directory, env=self._environment)
        self._process.wait_ready(self.accepts, "mailmapd")

    def accepts(self) -> bool:
        """Tell whether every listener accepts connections."""
        for address in self.addresses():
            try:
                connect(address).close()
            except OSError:
                return False
        return True

    @property
    def process(self) -> ServerProcess:
        """The daemon's process; fails when it was never started."""
        if self._process is None:
            raise ServerFailed("this daemon was not started")
        return self._process

    def stop(self) -> int:
        """End the daemon by SIGTERM and return its exit status."""
        return self.process.stop()

    def text(self) -> str:
        """Return everything that the daemon has written to standard error."""
        return self.log.read_text(errors="backslashreplace")

    def connect(self, kind: str, number: int = 0) -> socket.socket:
        """Connect to the n-th listener of a kind (``socketmap``, ``dict``, ``http``, ``control``)."""
        value = self.listeners[kind]
        entry = value[number] if isinstance(value, list) else value
        return connect(entry["address"] if isinstance(entry, dict) else entry)

    def socketmap(self, number: int = 0) -> SocketmapClient:
        """Open a client on the n-th socketmap listener."""
        return SocketmapClient(self.connect("socketmap", number))

    def tcp_table(self, name: str) -> TcpTableClient:
        """Open a client on the tcp_table listener of a map."""
        value = self.listeners["tcp_table"][name]
        return TcpTableClient(connect(value["address"] if isinstance(value, dict) else value))

    def command(self, *arguments: str, data: bytes = b"") -> subprocess.CompletedProcess[str]:
        """Run one of mailmapd's commands with this configuration and return its status and output."""
        command = [sys.executable, "-m", "mailmapd", *arguments, "--config", str(self.config)]
        done = subprocess.run(
            command,
            input=data,
            capture_output=True,
            cwd=self.directory,
            env=self._environment,
            timeout=120,
            check=False,
        )
        streams = [
            stream.decode(errors="backslashreplace") for stream in (done.stdout, done.stderr)
        ]
        return subprocess.CompletedProcess(command, done.returncode, *streams)

    def page(self, path: str) -> str:
        """Return a page of the HTTP listener."""
        with urllib.request.urlopen(
            f"http://{self.listeners['http']}{path}", timeout=30
        ) as response:
            text: str = response.read().decode()
            return text

    def stats(self) -> dict[str, Any]:
        """Return what the control socket says of the daemon now. A page of metrics is made once a second."""
        with ControlClient(self.listeners["control"].removeprefix("unix:")) as client:
            return client.stats()

    def metrics(self) -> dict[str, float]:
        """Return every sample of /metrics by its name with labels, as it is written there."""
        samples = re.findall(r"^([^#\s]\S*(?:\{.*\})?) (\S+)$", self.page("/metrics"), re.MULTILINE)
        return {name: float(value) for name, value in samples}
