"""A Debian system in a folder that is kept, made once per machine; programs run in it by chroot.

    with KeptDebian("debian13", "trixie", packages) as system:
        system.write("etc/dovecot/dovecot.conf", text)
        system.start(["dovecot", "-F"], log)
        system.run("doveadm", "user", "*")

The folder is kept below /var/tmp (or where MAILMAPD_TESTS_DEBIAN13 says, for the name debian13),
because making it downloads 100 MB and more; one test uses it at a time, unless it is `shared`.
Every program gets a mount namespace of its own for /proc and /dev, so that nothing stays mounted.
The network is this machine's.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from support.debian import DebianSystem
from support.process import ServerFailed, ServerProcess, program

READY = "mailmapd-tests-ready"
POLICY = "usr/sbin/policy-rc.d"
WRITTEN = ("etc", "home", "var/spool/postfix")  # where tests write
FRESH = "mailmapd-tests-fresh.tar"  # the same, as the packages have left it
INSTALL_SECONDS = 1200
ENVIRONMENT = {
    "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
    "LC_ALL": "C.UTF-8",
    "DEBIAN_FRONTEND": "noninteractive",
}

_ENTER = """
mount -t proc proc "$1/proc"
mount --rbind /dev "$1/dev"
exec chroot "$@"
"""


class CannotDownload(ServerFailed):
    """The packages of a Debian system could not be had."""


class KeptDebian:
    """The system of a Debian release with some more packages; `folder` is its root directory.

    `packages` are kept from starting services. `include` is for packages that have none:
    debootstrap installs them in one go, and takes the unstable release also when its last signature
    has expired by this machine's clock, which apt-get does not.
    """

    shared = False
    """Whether several tests may use the system at a time, because each writes to a folder of its own."""

    def __init__(
        self, name: str, release: str, packages: Sequence[str] = (), *, include: Sequence[str] = ()
    ) -> None:
        self.folder = Path(
            os.environ.get(f"MAILMAPD_TESTS_{name.upper()}", f"/var/tmp/mailmapd-tests-{name}")
        )
        self._name = name
        self._release = release
        self._packages = packages
        self._include = include
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        if os.getuid() != 0:
            raise ServerFailed("chroot needs root: run this test as root")
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        lock = self._stack.enter_context(self.folder.with_suffix(".lock").open("w"))
        try:
            if self.shared:
                fcntl.flock(lock, fcntl.LOCK_SH)
                if self._is_ready():
                    return self
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (self.folder / READY).exists():
                self._install()
            self._add_packages()
            if self.shared:
                fcntl.flock(lock, fcntl.LOCK_SH)
        except BaseException:
            self._stack.close()
            raise
        return self

    def _is_ready(self) -> bool:
        """Return whether the system is there, with all of its packages."""
        ready = self.folder / READY
        return ready.exists() and set(self._packages) <= set(ready.read_text().split())

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def _install(self) -> None:
        """Make the folder anew."""
        shutil.rmtree(self.folder, ignore_errors=True)
        options = (
            ["--variant=minbase", f"--include={','.join(self._include)}"]
            if self._include
            else ["--variant=minbase"]
        )
        command = [program("debootstrap", "debootstrap"), *options, self._release, str(self.folder)]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False
        )
        if done.returncode != 0:
            raise CannotDownload(f"debootstrap: {done.stdout[-1000:]}{done.stderr[-1000:]}")
        self.write(POLICY, "#!/bin/sh\nexit 101\n").chmod(
            0o755
        )  # packages must not start their services
        self.write("etc/hostname", f"{self._name}.test\n")
        # Nothing here must outlive a power cut.
        self.write("etc/dpkg/dpkg.cfg.d/unsafe-io", "force-unsafe-io\n")
        if self._packages:
            self._apt_get("update")
            self._apt_get("install", "--yes", "--no-install-recommends", *self._packages)
        try:
            self.prepare()
        except ServerFailed as error:
            raise CannotDownload(
                f"{self._release} has packages that do not work: {error}"
            ) from error
        there = [name for name in WRITTEN if self.path(name).exists()]
        self._tar("--create", self.folder, *there)
        (self.folder / READY).write_text("\n".join(self._packages))

    def _add_packages(self) -> None:
        """Install what has joined the packages since the folder was made."""
        there = (self.folder / READY).read_text().split()
        new = [name for name in self._packages if name not in there]
        if new:
            self._apt_get("update")
            self._apt_get("install", "--yes", "--no-install-recommends", *self._packages)
            (self.folder / FRESH).unlink(missing_ok=True)
            (self.folder / READY).write_text("\n".join(self._packages))

    def _apt_get(self, *arguments: str) -> None:
        done = self.run("apt-get", "--quiet", *arguments, check=False)
        if done.returncode != 0:
            raise CannotDownload(f"apt-get: {done.stdout[-1000:]}{done.stderr[-1000:]}")

    def prepare(self) -> None:
        """Do what needs to be done once, after the packages are there."""

    def copy(self, folder: Path) -> DebianSystem:
        """Return a copy that can be changed and booted, in a folder that does not exist yet.

        It is as fresh as on the day it was made, whatever tests have done in this one.
        """
        if not (self.folder / FRESH).exists():
            self._install()
        subprocess.run(["cp", "--archive", "--reflink=auto", self.folder, folder], check=True)
        for name in WRITTEN:
            shutil.rmtree(folder / name, ignore_errors=True)
        self._tar("--extract", folder)
        for left in (FRESH, READY, POLICY):
            (folder / left).unlink()
        return DebianSystem(folder)

    @staticmethod
    def _tar(action: str, folder: Path, *names: str) -> None:
        command = ["tar", action, "--numeric-owner", "--file", FRESH, *names]
        subprocess.run(command, cwd=folder, check=True)

    def path(self, name: str) -> Path:
        """Return where a file of the system is on this machine."""
        return self.folder / name.lstrip("/")

    def write(self, name: str, text: str, mode: int = 0o644) -> Path:
        """Write a file of the system and return where it is."""
        path = self.path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)
        return path

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a program in the system; fail when it does, unless told otherwise."""
        done = subprocess.run(
            self._command(*command),
            capture_output=True,
            text=True,
            env=ENVIRONMENT,
            timeout=INSTALL_SECONDS,
            cwd="/",
            check=False,
        )
        if check and done.returncode != 0:
            raise ServerFailed(
                f"{' '.join(command)}: status {done.returncode}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
            )
        return done

    def start(self, command: list[str], log: Path) -> ServerProcess:
        """Start a server in the system."""
        return ServerProcess(self._command(*command), log, env=ENVIRONMENT, cwd=Path("/"))

    def _command(self, *command: str) -> list[str]:
        return ["unshare", "--mount", "sh", "-ec", _ENTER, "sh", str(self.folder), *command]

    def user(self, name: str) -> int:
        """Return the number of one of the system's users."""
        return self._number("etc/passwd", name)

    def group(self, name: str) -> int:
        """Return the number of one of the system's groups."""
        return self._number("etc/group", name)

    def _number(self, file: str, name: str) -> int:
        lines = [line.split(":") for line in self.path(file).read_text().splitlines()]
        return next(int(fields[2]) for fields in lines if fields[0] == name)
