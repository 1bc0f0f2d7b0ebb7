"""Sizes of memory as people write them: ``"512MiB"``, ``"10%"`` of the machine's memory, or a plain number of bytes."""

from __future__ import annotations

import os
import re
from pathlib import Path

SIZE = re.compile(r"(?P<number>[0-9]+(?:\.[0-9]+)?)\s*(?P<unit>%|B|KiB|MiB|GiB)?")
_UNITS = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_MOST = 2**53  # bytes, or whatever the unit: more than any machine has
_LEAST_OF_PART = 64 * 2**20  # bytes; a part of the memory is not less
_PART_OF_GROUP = 0.25  # of what this process' control group may use, at most


def check_size(value: object) -> str:
    """Return the size as a text. Raises ValueError with what to write instead."""
    text = str(value) if isinstance(value, int | str) and not isinstance(value, bool) else ""
    match = SIZE.fullmatch(text.strip())
    if match is None or not 0 < float(match["number"]) < _MOST:
        raise ValueError(f'"{value}" is not a size; write "10%" of the memory, or "512MiB"')
    if match["unit"] == "%" and float(match["number"]) > 100:
        raise ValueError(f'"{value}" is more memory than there is; write "10%" or "512MiB"')
    return text.strip()


def size_in_bytes(text: str) -> int:
    """Return how many bytes a size means on this machine.

    A part of the memory is at least 64 MiB, and at most a quarter of what the control group allows.
    """
    match = SIZE.fullmatch(text)
    assert match is not None  # noqa: S101 (check_size has seen it)
    number, unit = float(match["number"]), match["unit"] or "B"
    if unit != "%":
        return int(number * _UNITS[unit])
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    allowed = min(memory * number / 100, _group_limit() * _PART_OF_GROUP)
    return max(_LEAST_OF_PART, int(allowed))


def _group_limit() -> float:
    """Return the least memory limit of the control groups that this process is in, see cgroup v2's memory.max."""
    limit = float("inf")
    try:
        own = Path("/proc/self/cgroup").read_text().strip().rpartition("::")[2]
        folder = Path("/sys/fs/cgroup") / own.lstrip("/")
        for level in (folder, *folder.parents):
            found = level / "memory.max"
            if found.exists() and (text := found.read_text().strip()).isdigit():
                limit = min(limit, int(text))
    except OSError:  # no control groups, or none that can be read
        return limit
    return limit
