"""A private Postfix: own configuration, queue, data directory and log.

Smtpd on a loopback port; every message kept on hold.

    with Postfix(directory, {"virtual_mailbox_domains": "socketmap:unix:mailmapd/socketmap:domains"}) as postfix:
        with postfix.smtp() as session:
            session.mail("sender@example.net"); session.rcpt("user@example.com")
        postfix.postmap("mysql:/etc/postfix/x.cf", [b"key"])
        postfix.queue()                     # queued messages with their resulting recipients

Messages are kept on hold (``header_checks = static:HOLD``), so that cleanup's work shows in the
queue and nothing is ever delivered; pass ``{"header_checks": ""}`` to let the queue manager have
them. Postfix's master needs root, as every Postfix does.
"""

from __future__ import annotations

import grp
import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from support.postfix_settings import BASIC_SETTINGS, DAEMON_DIRECTORY, OWNED_BY_POSTFIX, SERVICES
from support.process import ServerFailed, ServerProcess, free_port, program, wait_until
from support.smtp import SmtpSession

PACKAGE = "postfix"
GREETING_SECONDS = 5.0  # then it is seen whether master still runs, and smtpd is asked again


class LookupFailed(Exception):
    """`postmap -q` ended with an error, which is not the same as "not found"; the text is what it printed."""


@dataclass(frozen=True)
class PostmapRun:
    """A run of `postmap -q -`, and what it printed: `found` is its raw standard output (``KEY TAB VALUE`` lines)."""

    found: bytes
    errors: str

    @property
    def failed(self) -> bool:
        """Tell whether a lookup ended in an error; postmap stops there and prints nothing dependable."""
        return "fatal:" in self.errors


@dataclass(frozen=True)
class QueuedMessage:
    """One message of the queue: its resulting recipients, each with the reason why it waits (empty when held)."""

    queue: str
    identity: str
    sender: str
    recipients: tuple[tuple[str, str], ...]

    @property
    def addresses(self) -> list[str]:
        """The recipient addresses, sorted."""
        return sorted(address for address, _ in self.recipients)


class Postfix:
    """A private instance.

    `directory` must be one that every account may enter, with a short path (`private_directory`).

    `settings` are main.cf parameters over BASIC_SETTINGS, `services` further master.cf lines. With
    `chroot`, smtpd, cleanup and trivial-rewrite run chrooted in the queue directory, as Debian has
    it.
    """

    def __init__(
        self,
        directory: Path,
        settings: Mapping[str, str],
        *,
        chroot: bool = False,
        services: str = "",
    ) -> None:
        self.config = directory / "etc"
        self.queue_directory = directory / "queue"
        self.data_directory = directory / "data"
        self.log = directory / "mail.log"
        self.port = free_port()
        self._output = directory / "master.log"
        self._settings = BASIC_SETTINGS | {
            "queue_directory": str(self.queue_directory),
            "data_directory": str(self.data_directory),
        }
        self._settings |= {"maillog_file": str(self.log)} | dict(settings)
        smtpd = f"127.0.0.1:{self.port} inet n - {{chroot}} - - smtpd\n"
        self._services = (smtpd + SERVICES).format(chroot="y" if chroot else "n") + services
        self._process: ServerProcess | None = None
        program("postconf", PACKAGE)
        self._make_directories()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _make_directories(self) -> None:
        """Write main.cf and master.cf and create the queue with the owners and modes that Postfix demands."""
        self.config.mkdir()
        self.write_settings()
        self._write("master.cf", self._services)
        self.queue_directory.mkdir()
        (self.queue_directory / "pid").mkdir()
        for name in (*OWNED_BY_POSTFIX, "maildrop", "public"):
            (self.queue_directory / name).mkdir(mode=0o700)
        self.data_directory.mkdir(mode=0o700)
        if os.getuid() == 0:
            owner, group = pwd.getpwnam("postfix").pw_uid, grp.getgrnam("postdrop").gr_gid
            for name in OWNED_BY_POSTFIX:
                os.chown(self.queue_directory / name, owner, 0)
            os.chown(self.data_directory, owner, owner)
            for name, mode in (("maildrop", 0o1730), ("public", 0o2710)):
                os.chown(self.queue_directory / name, owner, group)
                (self.queue_directory / name).chmod(mode)

    def write_settings(self, **changes: str) -> None:
        """Write main.cf with the given parameters changed; `reload` makes running services read it."""
        self._settings |= changes
        self._write(
            "main.cf", "".join(f"{name} = {value}\n" for name, value in self._settings.items())
        )

    def _write(self, name: str, text: str) -> None:
        """Write a file with a modification time in the past.

        Postfix waits for seconds until a fresh one has settled.
        """
        path = self.config / name
        path.write_text(text)
        past = time.time() - 60
        os.utime(path, (past, past))

    def start(self) -> None:
        """Start the instance and wait until smtpd greets."""
        if os.getuid() != 0:
            raise ServerFailed("Postfix's master runs as root only: run this test as root")
        self._process = ServerProcess(
            [str(DAEMON_DIRECTORY / "master"), "-d", "-c", str(self.config)], self._output
        )
        try:
            self._process.wait_ready(self.greets, "Postfix", logs=[self.log])
        except BaseException:
            self._process = None
            raise

    def greets(self) -> bool:
        """Tell soon whether smtpd answers a connection with its banner."""
        try:
            with self.smtp(GREETING_SECONDS):
                return True
        except (OSError, EOFError):
            return False

    def stop(self) -> None:
        """End the instance with all of its services; safe when it was never started."""
        if self._process is not None:
            self._process.stop()
            self._process = None

    def reload(self) -> None:
        """Make every service start afresh with the present main.cf: `postfix reload` without its sleeps."""
        if self._process is None:
            raise ServerFailed("this Postfix was not started")
        reloads = self.text().count("reload -- version")
        self._process.send_signal(signal.SIGHUP)
        wait_until(lambda: self.text().count("reload -- version") > reloads, "Postfix's reload")

    def run(
        self, command: str, *arguments: str, data: bytes = b""
    ) -> subprocess.CompletedProcess[bytes]:
        """Run one of Postfix's commands on this instance, in the queue directory, and fail when it fails."""
        done = subprocess.run(
            self._command(command, *arguments),
            input=data,
            capture_output=True,
            cwd=self.queue_directory,
            check=False,
        )
        if done.returncode != 0:
            raise ServerFailed(
                f"{command} {' '.join(arguments)}: {done.stderr.decode(errors='backslashreplace')}"
            )
        return done

    def _command(self, command: str, *arguments: str) -> list[str]:
        return [
            program(command, PACKAGE),
            *(["-C"] if command == "sendmail" else ["-c"]),
            str(self.config),
            *arguments,
        ]

    def postmap(self, table: str, keys: Iterable[bytes], *options: str) -> PostmapRun:
        """Ask the keys of one table (``mysql:/file``, ``socketmap:unix:…:name``) in one `postmap -q
        -`, in the queue directory.
        """
        command = self._command("postmap", *options, "-q", "-", table)
        with tempfile.TemporaryFile() as asked, tempfile.TemporaryFile() as found:
            asked.writelines(key + b"\n" for key in keys)
            asked.seek(0)
            with subprocess.Popen(
                command, stdin=asked, stdout=found, stderr=subprocess.PIPE, cwd=self.queue_directory
            ) as process:
                errors = self._errors(process)
            found.seek(0)
            run = PostmapRun(found.read(), errors)
        if process.returncode not in (0, 1) and not run.failed:
            raise ServerFailed(
                f"postmap of {table} ended with status {process.returncode}: {run.errors}"
            )
        return run

    @staticmethod
    def _errors(process: subprocess.Popen[bytes]) -> str:
        """Return what postmap prints to standard error.

        After a fatal error it sleeps for a second, which is not waited for.
        """
        lines = []
        for line in process.stderr or ():
            lines.append(line.decode(errors="backslashreplace"))
            if "fatal:" in lines[-1]:
                process.kill()
                break
        return "".join(lines)

    def lookup(self, table: str, key: bytes, *options: str) -> bytes | None:
        """Return the value of one key, None when it is definitely not found; raise LookupFailed on an error."""
        run = self.postmap(table, [key], *options)
        if run.failed:
            raise LookupFailed(run.errors)
        if not run.found:
            return None
        return run.found.removeprefix(key + b"\t").removesuffix(b"\n")

    def smtp(self, timeout: float = 60.0) -> SmtpSession:
        """Open an SMTP session and greet."""
        return SmtpSession(socket.create_connection(("127.0.0.1", self.port), timeout=timeout))

    def send(
        self, sender: str, recipients: Sequence[str], text: str = "Subject: test\r\n\r\ntext\r\n"
    ) -> list[str]:
        """Send one message over SMTP and return the reply to each RCPT; no message is made when all are refused."""
        with self.smtp() as session:
            return session.send(sender, recipients, text)

    def sendmail(
        self, sender: str, recipients: Sequence[str], text: str = "Subject: test\n\ntext\n"
    ) -> None:
        """Submit one message as a local user does, which takes addresses without a domain, and wait
        until it is queued.
        """
        before = {message.identity for message in self.queue()}
        self.run("sendmail", "-f", sender, "--", *recipients, data=text.encode())
        wait_until(
            lambda: bool({m.identity for m in self.queue() if m.queue != "maildrop"} - before),
            "sendmail's message in the queue",
        )

    def queue(self) -> list[QueuedMessage]:
        """Return every message in the queue (`postqueue -j`)."""
        messages = []
        for line in self.run("postqueue", "-j").stdout.splitlines():
            entry = json.loads(line)
            recipients = tuple(
                (item["address"], item.get("delay_reason", "")) for item in entry["recipients"]
            )
            messages.append(
                QueuedMessage(entry["queue_name"], entry["queue_id"], entry["sender"], recipients)
            )
        return messages

    def purge(self) -> None:
        """Delete every message of the queue."""
        self.run("postsuper", "-d", "ALL")

    def text(self) -> str:
        """Return what Postfix has logged."""
        return self.log.read_text(errors="backslashreplace") if self.log.exists() else ""

    def link_socket(self, name: str) -> Path:
        """Return a path below the queue directory for a UNIX socket, in a directory that Postfix's
        services may enter.
        """
        path = self.queue_directory / name
        path.parent.mkdir(exist_ok=True)
        path.parent.chmod(0o755)
        return path

    def remove(self) -> None:
        """Delete the instance's files."""
        for path in (self.config, self.queue_directory, self.data_directory):
            shutil.rmtree(path, ignore_errors=True)
