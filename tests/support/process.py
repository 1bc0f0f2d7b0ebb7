"""A child process of a test: started with its output in a file, signalled and ended by its own process id."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

START_SECONDS = 60.0
STOP_SECONDS = 30.0
POLL_SECONDS = 0.01


class ServerFailed(AssertionError):
    """A server that a test needs did not start, stop or answer; the text holds what it logged."""


def program(name: str, package: str) -> str:
    """Return the path of a server program, or fail with the Debian package that holds it."""
    path = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin:/usr/local/sbin")
    if path is None:
        raise ServerFailed(f"{name} is not installed: apt-get install {package}")
    return path


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


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

    def wait_ready(self, ready: Callable[[], bool], what: str) -> None:
        """Wait until the process is ready; fail with its log when it ends first."""

        def ready_or_dead() -> bool:
            if not self.running():
                raise ServerFailed(
                    f"{what} ended with status {self._process.returncode}:\n{self.text()}"
                )
            return ready()

        wait_until(ready_or_dead, f"{what} does not answer, see {self.log}")

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
