"""What the kernel says a process has used: processor time and memory."""

from __future__ import annotations

import os
import re
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
        """Read /proc/PID/stat, see proc(5); the fields count from behind the command's name, which may hold anything."""
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        return cls(int(fields[11]) * TICK, int(fields[12]) * TICK)

    def since(self, before: ProcessorTime) -> ProcessorTime:
        """Return what was used after `before`."""
        return ProcessorTime(self.user - before.user, self.system - before.system)

    @property
    def total(self) -> float:
        """Both."""
        return self.user + self.system


def resident_bytes(pid: int) -> int:
    """Return the memory that a process has in use (VmRSS)."""
    found = re.search(r"VmRSS:\s*(\d+) kB", Path(f"/proc/{pid}/status").read_text(encoding="utf-8"))
    return int(found.group(1)) * 1024 if found else 0
