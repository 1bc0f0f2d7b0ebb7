from __future__ import annotations

import os
import time

from bench.accounting import OwnTime, ProcessorTime, processor_seconds


def burn(seconds: float) -> float:
    """Use so much processor time."""
    until = time.process_time() + seconds
    while time.process_time() < until:
        sum(range(20_000))
    return 1.0


def test_processor_seconds() -> None:
    """The processor time of a process is what it has used, to less than a hundredth of a second."""
    before = processor_seconds(os.getpid())
    burn(0.004)
    used = processor_seconds(os.getpid()) - before
    assert 0.004 <= used < 0.1


def test_waiting_is_no_processor_time() -> None:
    """Time in which a process waits is not its processor time."""
    before = processor_seconds(os.getpid())
    time.sleep(0.05)
    assert processor_seconds(os.getpid()) - before < 0.03


def test_own_time_per_unit() -> None:
    """The time of several measurements is divided by the work of all of them."""
    own = OwnTime(os.getpid(), clients=1)
    own.around(lambda: burn(0.02))
    own.around(lambda: 3 * burn(0.02))
    assert 0.01 <= own.per_unit < 0.05


def test_user_and_system() -> None:
    """What a process did in its own code counts as its own, not as the kernel's."""
    before = ProcessorTime.of(os.getpid())
    burn(0.1)
    used = ProcessorTime.of(os.getpid()).since(before)
    assert used.user > used.system
