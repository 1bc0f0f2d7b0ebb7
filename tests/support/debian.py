"""A Debian system in a folder, and systemd booted in it.

Namespaces of its own, so that nothing of this machine is touched.

with Debian13() as kept:
    system = kept.copy(folder)
system.run("dpkg", "--install", "/mailmapd.deb")
with system.booted():
    system.run("systemctl", "start", "mailmapd")
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.process import ServerFailed, ServerProcess, wait_until

_BOOT = """
set -e
mount --make-rprivate /
mount --bind "$1" "$1"
cd "$1"
mount -t proc proc proc
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs tmpfs tmp
mount --rbind /sys sys
mount --rbind /dev dev
mkdir -p mnt/host
pivot_root . mnt/host
cd /
umount -l mnt/host
mount --make-rshared /
exec env -i container=mailmapd-test PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --system
"""
"""Run in new namespaces, where it is process 1: makes the folder the root of everything and becomes systemd."""

_CHROOT = """
folder=$1
shift
mount -t proc proc "$folder/proc"
exec chroot "$folder" "$@"
"""


class DebianSystem:
    """The Debian system in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._init: ServerProcess | None = None
        self._systemd = 0

    def run(
        self, *command: str, check: bool = True, data: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in the system (the booted one if it is booted) and return its status and
        output, standard error included.
        """
        if self._systemd:
            where = [
                "nsenter",
                f"--target={self._systemd}",
                "--mount",
                "--pid",
                "--uts",
                "--ipc",
                "--net",
                "--root",
                "--wd",
            ]
        else:
            where = [
                "unshare",
                "--mount",
                "--pid",
                "--fork",
                "sh",
                "-ec",
                _CHROOT,
                "sh",
                str(self.folder),
            ]
        done = subprocess.run(
            [*where, *command],
            input=data,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={
                "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                "LC_ALL": "C.UTF-8",
                "DEBIAN_FRONTEND": "noninteractive",
            },
            timeout=180,
            check=False,
        )
        if check and done.returncode != 0:
            raise ServerFailed(f"{' '.join(command)}: status {done.returncode}:\n{done.stdout}")
        return done

    @contextmanager
    def booted(self) -> Iterator[None]:
        """Boot systemd in process, mount, IPC, host name and network namespaces of its own; power it off at the end."""
        options = ["--fork", "--kill-child", "--pid", "--mount", "--ipc", "--uts", "--net"]
        command = ["unshare", *options, "sh", "-c", _BOOT, "sh", str(self.folder)]
        log = self.folder.with_name(f"{self.folder.name}-boot.log")
        self._init = ServerProcess(command, log)
        try:
            self._init.wait_ready(self._find_systemd, "systemd")
            wait_until(self._up, "systemd does not come up")
            yield
        finally:
            if self._systemd:
                os.kill(
                    self._systemd, signal.SIGKILL
                )  # process 1 of its namespace: everything in it ends
                self._systemd = 0
            self._init.wait()
            self._init = None

    def _find_systemd(self) -> bool:
        """Look for the child of unshare, which has become process 1 of the namespace once its program is systemd."""
        if self._init is None:
            return False
        children = (
            Path(f"/proc/{self._init.pid}/task/{self._init.pid}/children").read_text().split()
        )
        if not children:
            return False
        try:
            name = Path(f"/proc/{children[0]}/comm").read_text().strip()
        except FileNotFoundError:
            return False
        if name == "systemd":
            self._systemd = int(children[0])
        return name == "systemd"

    def _up(self) -> bool:
        return self.run("systemctl", "is-system-running", check=False).stdout.strip() in (
            "running",
            "degraded",
        )
