"""Another host on this one: a network in which an address that is not ours answers.

The function runs in a thread with a network of its own, where every address of 198.51.100.0/24 is on
the loopback interface and connections to it come from 127.0.0.1: for both ends of the same process,
two hosts. Nothing of it is seen outside, and nothing from outside inside. Needs root.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import subprocess
from collections.abc import Callable, Coroutine
from threading import Thread
from typing import Any

ADDRESS = "198.51.100.7"
"""The address of the other host (TEST-NET-2, which is nobody's)."""

_NEW_NETWORK = 0x40000000
"""CLONE_NEWNET of unshare(2)."""


def run_with_other_host(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a coroutine in a loop of its own, in a thread with such a network."""
    failures: list[BaseException] = []

    def inside() -> None:
        try:
            _make_network()
            asyncio.run(work())
        except BaseException as failure:  # noqa: BLE001  # raised again in the caller's thread
            failures.append(failure)

    thread = Thread(target=inside)
    thread.start()
    thread.join()
    if failures:
        raise failures[0]


def _make_network() -> None:
    library = ctypes.CDLL(None, use_errno=True)
    if library.unshare(_NEW_NETWORK) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    for command in (
        "link set lo up",
        "route add local 198.51.100.0/24 dev lo src 127.0.0.1",
    ):
        subprocess.run(["ip", *command.split()], check=True)
