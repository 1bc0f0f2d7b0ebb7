from __future__ import annotations

import json
import logging
import sys

import pytest

from mailmapd.app.logs import Logs
from mailmapd.app.recent_errors import KEPT, RecentErrors
from mailmapd.app.repeats import BURST, PERIOD, Repeats
from mailmapd.config.schema import LogSection
from support.clock import FakeClock


class Bench:
    """A logger with a filter, and what comes out of it."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.lines: list[str] = []
        self.repeats = Repeats(lambda record: self.lines.append(record.getMessage()), self.clock)

    def log(self, template: str, *values: object, level: int = logging.WARNING) -> None:
        """Log one line."""
        record = logging.LogRecord("mailmapd.test", level, __file__, 1, template, values, None)
        if self.repeats.filter(record):
            self.lines.append(record.getMessage())


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_counted(bench: Bench) -> None:
    """The first lines of a flood are written, the others counted, and the count follows with the
    last of them when the period is over.
    """
    for number in range(BURST + 1234):
        bench.log("map %s failed", number)
    assert bench.lines == [f"map {number} failed" for number in range(BURST)]
    bench.clock.now = PERIOD - 1
    bench.repeats.flush()
    assert len(bench.lines) == BURST
    bench.clock.now = PERIOD
    bench.repeats.flush()
    assert bench.lines[BURST:] == [f"map {BURST + 1233} failed (… 1 234 more like this in 60 s)"]
    bench.repeats.flush(everything=True)
    assert len(bench.lines) == BURST + 1


def test_next_period(bench: Bench) -> None:
    """A flood that goes on is written from the start in the next period, after the count of the last one."""
    for _ in range(BURST + 1):
        bench.log("again")
    bench.clock.now = PERIOD
    bench.log("again")
    assert bench.lines[BURST:] == ["again (… 1 more like this in 60 s)", "again"]


def test_different_lines(bench: Bench) -> None:
    """Lines of another template or level are not held back."""
    for _ in range(BURST):
        bench.log("one")
    bench.log("two")
    bench.log("one", level=logging.ERROR)
    assert len(bench.lines) == BURST + 2


def test_end(bench: Bench) -> None:
    """At the end of the process nothing that was counted is lost."""
    for _ in range(BURST + 2):
        bench.log("again")
    bench.repeats.flush(everything=True)
    assert bench.lines[-1] == "again (… 2 more like this in 0 s)"


def test_recent() -> None:
    """The last warnings and errors are kept, the newest first, and nothing below."""
    recent = RecentErrors()
    for number in range(KEPT + 10):
        recent.handle(
            logging.LogRecord("mailmapd", logging.ERROR, __file__, 1, "error %d", (number,), None)
        )
    assert len(recent.lines) == KEPT
    assert recent.lines[0].message == f"error {KEPT + 9}"
    assert recent.lines[0].level == "error"


def test_formats(capfd: pytest.CaptureFixture[str]) -> None:
    """Each format writes one line for an event, a count included.

    What is kept for the status page is the plain text.
    """
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    ours = logging.getLogger("mailmapd")
    own = ours.level
    first: dict[str, str] = {}
    try:
        for chosen, start in (("plain", "WARNING host"), ("journald", "<4>host"), ("json", "{")):
            logs = Logs(LogSection(format=chosen))
            for _ in range(BURST + 2):
                logging.getLogger("mailmapd.test").warning("host %s is away", "db1")
            logs.write_repeats(all_of_them=True)
            lines = capfd.readouterr().err.splitlines()
            assert len(lines) == BURST + 1
            assert all(line.startswith(start) for line in lines)
            assert "more like this" in lines[-1]
            first[chosen] = lines[0]
            assert logs.recent.lines[0].message.startswith("host db1 is away (… 2 more")
        assert json.loads(first["json"])["message"] == "host db1 is away"
    finally:
        ours.setLevel(own)
        logging.basicConfig(handlers=before, level=level, force=True)


def test_libraries_say_nothing_of_what_they_are_given(capfd: pytest.CaptureFixture[str]) -> None:
    """With level debug our own lines are written, and of any library those from warning on."""
    root, ours = logging.getLogger(), logging.getLogger("mailmapd")
    before, level, own = list(root.handlers), root.level, ours.level
    try:
        Logs(LogSection(format="plain", level="debug"))
        logging.getLogger("mailmapd.cluster").debug("ours")
        for library in ("redis", "redis.asyncio.connection", "aiomysql", "any.library"):
            logging.getLogger(library).info("AUTH secret")
            logging.getLogger(library).warning("of %s", library)
    finally:
        logging.basicConfig(handlers=before, level=level, force=True)
        ours.setLevel(own)
    lines = capfd.readouterr().err.splitlines()
    assert lines[0] == "DEBUG ours"
    assert len(lines) == 5
    assert not any("secret" in line for line in lines)


def test_tracebacks(bench: Bench) -> None:
    """Tracebacks are alike by what was raised and where, not by their text, which may be new each
    time; another error is another line.
    """

    def fail(error: Exception) -> None:
        try:
            raise error
        except Exception:  # noqa: BLE001 (it is what is logged)
            text = f"future: <Task at {id(error):#x}>"
            record = logging.LogRecord(
                "asyncio", logging.ERROR, __file__, 1, text, None, sys.exc_info()
            )
            if bench.repeats.filter(record):
                bench.lines.append(type(error).__name__)

    errors = [ValueError(str(number)) for number in range(BURST + 5)]
    for error in errors:
        fail(error)
    fail(KeyError("other"))
    assert bench.lines == ["ValueError"] * BURST + ["KeyError"]
    bench.repeats.flush(everything=True)
    assert bench.lines[-1].endswith("(… 5 more like this in 0 s)")


def test_addresses_in_texts(bench: Bench) -> None:
    """Texts that differ in addresses in memory are alike."""
    for number in range(BURST + 5):
        bench.log(f"<Handle at {number + 4096:#x}>")
    assert len(bench.lines) == BURST
