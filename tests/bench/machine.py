"""What a table was measured on: the machine, the versions, the commit."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import mailmapd

SOURCE = Path(__file__).parents[2]


@dataclass(frozen=True)
class Machine:
    """The machine and the time; `busy` is the load average (tasks wanting a core) at the start."""

    processor: str
    cores: int
    memory: str
    system: str
    versions: dict[str, str]
    commit: str
    busy: float
    when: str

    def markdown(self) -> str:
        """Return the header of the table."""
        versions = ", ".join(f"{name} {version}" for name, version in self.versions.items())
        return (
            f"* {self.when}, mailmapd {mailmapd.__version__}, commit {self.commit}\n"
            f"* {self.cores} cores of {self.processor}, {self.memory}, {self.system}; load "
            f"average at the start {self.busy:.2f}\n"
            f"* {versions}\n"
        )


def this_machine() -> Machine:
    """Return what this machine is."""
    return Machine(
        processor=_first_match("/proc/cpuinfo", r"model name\s*: (.*)") or platform.machine(),
        cores=len(os.sched_getaffinity(0)),
        memory=f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB",
        system=_first_match("/etc/os-release", 'PRETTY_NAME="?([^"\n]*)')
        + f", Linux {platform.release()}",
        versions={
            "Python": platform.python_version(),
            "uvloop": metadata.version("uvloop"),
            "MariaDB": _version(["mariadbd", "--no-defaults", "--version"], r"Ver (\S+)"),
            "Postfix": _version(["postconf", "-dh", "mail_version"], r"(\S+)"),
            "Dovecot": _version(["dovecot", "--version"], r"(\S+)"),
            "memcached": _version(["memcached", "-V"], r"memcached (\S+)"),
        },
        commit=_commit(),
        busy=os.getloadavg()[0],
        when=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )


def _first_match(file: str, pattern: str) -> str:
    found = re.search(pattern, Path(file).read_text(encoding="utf-8"))
    return found.group(1) if found else ""


def _version(command: list[str], pattern: str) -> str:
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    try:
        text = subprocess.run(
            command, capture_output=True, text=True, env=os.environ | {"PATH": path}, check=False
        ).stdout
    except FileNotFoundError:
        return "(not installed)"
    found = re.search(pattern, text)
    return found.group(1) if found else "(unknown)"


def _commit() -> str:
    """Return the commit, and whether files of the program differ from it."""
    command = ["git", "-C", str(SOURCE)]
    done = subprocess.run(
        [*command, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        return "(no repository)"
    changed = subprocess.run(
        [*command, "status", "--porcelain", "daemon"], capture_output=True, text=True, check=False
    ).stdout
    return done.stdout.strip() + (" with changes" if changed else "")
