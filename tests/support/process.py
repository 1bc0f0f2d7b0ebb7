"""A child process of a test: started with its output in a file, signalled and ended by its own process id."""

from __future__ import annotations

import fcntl
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

START_SECONDS = 60.0
STOP_SECONDS = 30.0
POLL_SECONDS = 0.01
FIRST_PORT = 10_000
SHOWN_BYTES = 4000  # of a log in the text of a failure


class ServerFailed(AssertionError):
    """A server that a test needs did not start, stop or answer; the text holds what it logged."""


def program(name: str, package: str) -> str:
    """Return the path of a server program, or fail with the Debian package that holds it."""
    path = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin:/usr/local/sbin")
    if path is None:
        raise ServerFailed(f"{name} is not installed: apt-get install {package}")
    return path


class _Ports:
    """Ports of 127.0.0.1 for the servers of all test processes of this machine, each given out once.

    They lie below those that the kernel gives to clients and to servers without a wish: such a one
    may be anybody's, and even the own client's that waits for the server, before the server binds
    it. A lock on one byte of a file, which ends with the process, keeps a port from the others.
    """

    def __init__(self) -> None:
        self._lock: int | None = None
        self._given: set[int] = set()

    def take(self) -> int:
        """Return a port that nobody listens on."""
        if self._lock is None:
            path = Path(tempfile.gettempdir()) / f"mailmapd-tests-{os.getuid()}.ports"
            self._lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        limits = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()
        ports = range(FIRST_PORT, int(limits[0]))
        for port in random.sample(ports, len(ports)):
            if port not in self._given and self._reserve(self._lock, port):
                self._given.add(port)
                return port
        raise ServerFailed(f"no port from {FIRST_PORT} to {limits[0]} is free")

    @staticmethod
    def _reserve(lock: int, port: int) -> bool:
        try:
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
            with socket.socket() as probe:
                probe.bind(("", port))
        except OSError:
            return False
        return True


_ports = _Ports()


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that nobody listens on, and that no other test is given."""
    return _ports.take()


def listens(path: Path) -> bool:
    """Tell whether a server accepts connections on a UNIX socket, which is there before it listens."""
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0


def wait_until(condition: Callable[[], bool], what: str, seconds: float = START_SECONDS) -> None:
    """Poll until the condition holds; fail with `what` when it never does."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise ServerFailed(f"waited {seconds:.0f} s in vain: {what}")
        time.sleep(POLL_SECONDS)


class ServerProcess:
    """One child process with its standard output and error in `log`; it inherits the open files `descriptors`."""

    def __init__(
        self,
        command: Sequence[str],
        log: Path,
        *,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        descriptors: Collection[int] = (),
    ) -> None:
        self.log = log
        with log.open("ab") as output:
            # A session of its own: an interrupt at the terminal reaches the test alone, which then
            # ends its servers in order.
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=cwd,
                env=env,
                pass_fds=descriptors,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def running(self) -> bool:
        """Tell whether the process has not ended yet."""
        return self._process.poll() is None

    def wait_ready(
        self, ready: Callable[[], bool], what: str, *, logs: Iterable[Path] = ()
    ) -> None:
        """Wait until the process is ready; otherwise end it, and fail with its log and further `logs`."""
        deadline = time.monotonic() + START_SECONDS
        try:
            while not ready():
                if not self.running():
                    raise ServerFailed(f"{what} ended with status {self._process.returncode}")
                if time.monotonic() > deadline:
                    raise ServerFailed(f"waited {START_SECONDS:.0f} s in vain for {what}")
                time.sleep(POLL_SECONDS)
        except BaseException as error:
            with suppress(ServerFailed):
                self.stop()
            if not isinstance(error, ServerFailed):
                raise
            raise ServerFailed("\n".join([str(error), *map(_end_of, (self.log, *logs))])) from None

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to this process only."""
        self._process.send_signal(number)

    def wait(self, seconds: float = STOP_SECONDS) -> int:
        """Wait for the end and return the exit status."""
        return self._process.wait(seconds)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """End the process (SIGTERM, then SIGKILL after STOP_SECONDS) and return its exit status."""
        if self.running():
            self._process.send_signal(signal.SIGCONT)
            self._process.send_signal(number)
        try:
            return self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise ServerFailed(
                f"process {self.pid} ignored signal {number.name}:\n{self.text()}"
            ) from None

    def text(self) -> str:
        """Return everything that the process has logged."""
        return self.log.read_text(errors="backslashreplace")


def _end_of(log: Path) -> str:
    """Return the last lines of a log, below its name."""
    if not log.exists():
        return f"{log}: not there"
    return f"{log}:\n{log.read_text(errors='backslashreplace')[-SHOWN_BYTES:]}"
