"""What the kernel says a process has used: processor time and memory."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

TICK = 1 / os.sysconf("SC_CLK_TCK")
"""Seconds per unit of /proc/PID/stat."""


@dataclass(frozen=True)
class ProcessorTime:
    """Seconds of a process in its own code and in the kernel."""

    user: float
    system: float

    @classmethod
    def of(cls, pid: int) -> ProcessorTime:
        """Read /proc/PID/stat, see proc(5).

        The fields count from behind the command's name, which may hold anything.
        """
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        return cls(int(fields[11]) * TICK, int(fields[12]) * TICK)

    def since(self, before: ProcessorTime) -> ProcessorTime:
        """Return what was used after `before`."""
        return ProcessorTime(self.user - before.user, self.system - before.system)

    @property
    def total(self) -> float:
        """Both."""
        return self.user + self.system


def processor_seconds(pid: int) -> float:
    """Return the processor time of all threads of a process, to the nanosecond: what /proc/PID/stat
    has in hundredths of a second.
    """
    nanoseconds = 0
    for thread in Path(f"/proc/{pid}/task").iterdir():
        nanoseconds += int((thread / "schedstat").read_text(encoding="utf-8").split()[0])
    return nanoseconds / 1e9


class OwnTime:
    """The processor time of a process per unit of work, over any number of measurements with so
    many clients at a time.
    """

    def __init__(self, pid: int, clients: int) -> None:
        self._pid = pid
        self._cores = min(clients, len(os.sched_getaffinity(0)))
        self._seconds = 0.0
        self._units = 0.0

    def around(self, work: Callable[[], float]) -> None:
        """Do some work, which returns how many units it was."""
        before = processor_seconds(self._pid)
        self._units += work()
        self._seconds += processor_seconds(self._pid) - before

    @property
    def per_unit(self) -> float:
        """Seconds."""
        return self._seconds / self._units

    def ceiling(self, rate: float) -> float:
        """Return the rate that would remain if the process took no time, all else being equal.

        With one client everything happens one after the other; with more than there are cores, all
        cores are taken to be busy.
        """
        return 1 / (1 / rate - self.per_unit / self._cores)


def resident_bytes(pid: int) -> int:
    """Return the memory that a process has in use (VmRSS)."""
    found = re.search(r"VmRSS:\s*(\d+) kB", Path(f"/proc/{pid}/status").read_text(encoding="utf-8"))
    return int(found.group(1)) * 1024 if found else 0
