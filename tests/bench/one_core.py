"""Everything on one core, as on a host whose cores are all at work.

Nobody pays for waking an idle one, and rates are processor time.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def on_one_core() -> Iterator[None]:
    """Keep this process, all that it has started, and all that they start, on the last of its cores."""
    own = os.sched_getaffinity(0)
    before = {thread: os.sched_getaffinity(thread) for thread in _threads()}
    core = {max(own)}
    _pin(dict.fromkeys(before, core))
    try:
        yield
    finally:
        _pin({thread: before.get(thread, own) for thread in _threads()})


def _pin(cores: dict[int, set[int]]) -> None:
    for thread, allowed in cores.items():
        with suppress(ProcessLookupError):  # it has ended
            os.sched_setaffinity(thread, allowed)


def _threads() -> list[int]:
    """Return the threads of this process and of its descendants."""
    children: dict[int, list[int]] = defaultdict(list)
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(FileNotFoundError, ProcessLookupError):
            children[
                int(
                    stat.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[1]
                )
            ].append(int(stat.parent.name))
    family = [os.getpid()]
    for process in family:
        family += children[process]
    return [thread for process in family for thread in _threads_of(process)]


def _threads_of(process: int) -> Iterable[int]:
    with suppress(FileNotFoundError, ProcessLookupError):
        return [int(thread.name) for thread in Path(f"/proc/{process}/task").iterdir()]
    return []
