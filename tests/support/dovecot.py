"""A private Dovecot 2.3: own base directory, configuration and log.

Services on loopback ports and UNIX sockets below its directory.

    with Dovecot(directory, AUTH_SECTIONS) as dovecot:
        dovecot.auth_test("user@example.com", "secret", service="imap")  # Verdict.ACCEPTED, REFUSED or FAILED
        dovecot.user("user@example.com", service="lmtp")              # fields, None = no such user; raises LookupFailed

`AUTH_SECTIONS` are the `passdb`/`userdb` sections (and anything else) that a test is about. The
master needs root, as every Dovecot that serves several users does. The directory must be one that
every account may enter, with a path short enough for UNIX sockets (`private_directory`).
"""

from __future__ import annotations

import enum
import os
import re
import subprocess
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

from support.process import ServerFailed, ServerProcess, free_port, listens, program

PACKAGES = "dovecot-core dovecot-imapd dovecot-pop3d dovecot-lmtpd dovecot-mysql"
EXIT_NO_USER, EXIT_TEMPORARY, EXIT_REFUSED = 67, 75, 77  # sysexits(3), as doveadm uses them

BASIC_SETTINGS = """\
base_dir = {directory}/run
state_dir = {directory}/state
log_path = {directory}/dovecot.log
protocols = imap pop3 lmtp
listen = 127.0.0.1
ssl = no
disable_plaintext_auth = no
mail_location = maildir:~/Maildir
first_valid_uid = 0
auth_failure_delay = 0
auth_verbose = yes
default_vsz_limit = 512 M
service anvil {{
  client_limit = 2048
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
service auth {{
  client_limit = 2048
  unix_listener auth-client {{
    mode = 0666
  }}
  unix_listener auth-userdb {{
    mode = 0666
  }}
}}
service imap-login {{
  inet_listener imap {{
    port = {imap}
  }}
  inet_listener imaps {{
    port = {imaps}
  }}
}}
service pop3-login {{
  inet_listener pop3 {{
    port = {pop3}
  }}
  inet_listener pop3s {{
    port = {pop3s}
  }}
}}
"""


class Verdict(enum.Enum):
    """The verdict of `doveadm auth test` on a login."""

    ACCEPTED = 0
    REFUSED = EXIT_REFUSED
    FAILED = EXIT_TEMPORARY


class LookupFailed(Exception):
    """A user lookup ended in a temporary failure, which is not the same as an unknown user.

    The text is what doveadm printed.
    """


class Dovecot:
    """A running private Dovecot; `ports` maps imap, imaps, pop3 and pop3s to ports of 127.0.0.1."""

    def __init__(self, directory: Path, settings: str) -> None:
        self.directory = directory
        self.config = directory / "dovecot.conf"
        self.log = directory / "dovecot.log"
        self.ports = {name: free_port() for name in ("imap", "imaps", "pop3", "pop3s")}
        self._output = directory / "dovecot.out"
        self._process: ServerProcess | None = None
        program("dovecot", PACKAGES)
        (directory / "state").mkdir()
        self.config.write_text(BASIC_SETTINGS.format(directory=directory, **self.ports) + settings)

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

    def socket(self, name: str) -> Path:
        """Return the path of one of Dovecot's own sockets, such as ``auth-userdb`` or ``lmtp``."""
        return self.directory / "run" / name

    def start(self) -> None:
        """Start the master and wait until the auth service can be asked."""
        if os.getuid() != 0:
            raise ServerFailed(
                "Dovecot's master needs root to serve several users: run this test as root"
            )
        self._process = ServerProcess(
            [program("dovecot", PACKAGES), "-F", "-c", str(self.config)], self._output
        )
        ready = partial(listens, self.socket("auth-userdb"))
        self._process.wait_ready(ready, "Dovecot", logs=[self.log])

    def stop(self) -> None:
        """End the master with all of its services; safe when it was never started."""
        if self._process is not None:
            self._process.stop()
            self._process = None

    def doveadm(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a doveadm command on this instance."""
        done = self._doveadm(*arguments)
        streams = [
            stream.decode(errors="backslashreplace") for stream in (done.stdout, done.stderr)
        ]
        return subprocess.CompletedProcess(done.args, done.returncode, *streams)

    def doveadm_bytes(self, *arguments: str) -> bytes:
        """Run a doveadm command that must succeed and return what it printed, as bytes."""
        done = self._doveadm(*arguments)
        if done.returncode != 0:
            raise ServerFailed(
                f"doveadm ended with status {done.returncode}: {done.stdout!r}{done.stderr!r}\n{self.text()}"
            )
        return done.stdout

    def _doveadm(self, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        command = [program("doveadm", PACKAGES), "-c", str(self.config), *arguments]
        return subprocess.run(command, capture_output=True, timeout=120, check=False)

    def auth_test(self, user: str, password: str, **about: str) -> Verdict:
        """Log in without a session; `about` tells Dovecot more, such as ``service="imap"`` or ``rip="192.0.2.1"``."""
        done = self.doveadm("auth", "test", *_about(about), user, password)
        if "code=temp_fail" in done.stdout:
            return Verdict.FAILED
        try:
            return Verdict(done.returncode)
        except ValueError:
            raise ServerFailed(
                f"doveadm auth test ended with status {done.returncode}: {done.stdout}{done.stderr}\n{self.text()}"
            ) from None

    def auth_fields(self, user: str, password: str, **about: str) -> list[str]:
        """Return the extra fields (``key=value``) of a successful login, sorted."""
        done = self.doveadm("auth", "test", *_about(about), user, password)
        if done.returncode != 0:
            raise ServerFailed(
                f"doveadm auth test ended with status {done.returncode}: {done.stdout}{done.stderr}\n{self.text()}"
            )
        return sorted(line.strip() for line in done.stdout.splitlines() if line.startswith(" "))

    def user(self, user: str, **about: str) -> dict[str, str] | None:
        """Return the userdb fields of a user, or None when there is definitely none.

        Raises LookupFailed on an error.
        """
        done = self.doveadm("user", *_about(about), user)
        if done.returncode == EXIT_NO_USER:
            return None
        if done.returncode != 0:
            raise LookupFailed(
                f"status {done.returncode}: {done.stdout}{done.stderr}\n{self.text()}"
            )
        lines = [line.partition("\t") for line in done.stdout.splitlines()[1:]]
        return {name: value for name, _, value in lines if name}

    def users(self, mask: str = "*") -> list[str]:
        """Return the listed users that fit a mask (which must hold a wildcard). Raises LookupFailed on an error."""
        done = self.doveadm("user", mask)
        if done.returncode != 0:
            raise LookupFailed(
                f"status {done.returncode}: {done.stdout}{done.stderr}\n{self.text()}"
            )
        return done.stdout.splitlines()

    def flush_auth_cache(self) -> None:
        """Make Dovecot's own auth cache forget everything."""
        self.doveadm("auth", "cache", "flush")

    def text(self) -> str:
        """Return what Dovecot has logged."""
        return self.log.read_text(errors="backslashreplace") if self.log.exists() else ""


def _about(about: dict[str, str]) -> list[str]:
    return [word for name, value in about.items() for word in ("-x", f"{name}={value}")]


def write_snippet(text: str) -> None:
    """Write the files of a generated snippet where its ``# ---- PATH ----`` lines say."""
    _, *parts = re.split(r"^# ---- (\S+) ----.*\n", text, flags=re.MULTILINE)
    for path, content in zip(parts[::2], parts[1::2], strict=True):
        Path(path).parent.mkdir(exist_ok=True)
        Path(path).write_text(content)
