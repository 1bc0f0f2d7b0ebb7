"""The demonstration: every line that it prints can be pasted, and shows something."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.daemon import SOURCE
from support.process import ServerProcess, wait_until

ENVIRONMENT = {
    "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
    "PYTHONPATH": str(SOURCE),
    "LC_ALL": "C.UTF-8",
    "TERM": "xterm",
}


class Demo:
    """A running demonstration and the lines that it printed."""

    def __init__(self, process: ServerProcess) -> None:
        self.process = process
        self.lines = [line.strip() for line in process.text().splitlines() if line.startswith("  ")]

    def line(self, word: str) -> str:
        """Return the one line with a word."""
        [found] = [line for line in self.lines if word in line]
        return found

    def paste(self, line: str) -> str:
        """Return what a line prints when it is pasted in another folder's shell."""
        done = subprocess.run(
            ["sh", "-c", line],
            env=ENVIRONMENT,
            cwd="/",
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, f"{line}: {done.stdout}{done.stderr}"
        return done.stdout


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """The demonstration, ready; at its end nothing of it may be left."""
    folder = tmp_path_factory.mktemp("demo")
    command = [sys.executable, "-m", "mailmapd", "demo"]
    process = ServerProcess(command, folder / "log", env=ENVIRONMENT)
    try:
        process.wait_ready(lambda: "INFO ready" in process.text(), "the demonstration")
        yield Demo(process)
    finally:
        process.stop(signal.SIGINT)
    left = re.search(r"removes (\S+)\.\n", process.text())
    assert left is not None
    assert not Path(left[1]).exists()


def test_every_line_can_be_pasted(demo: Demo) -> None:
    """Each command that is printed runs in a shell in another folder and prints something."""
    commands = [line for line in demo.lines if not line.startswith("http") and " top " not in line]
    assert len(commands) >= 7
    for line in commands:
        assert demo.paste(line), line


def test_commands_show_what_the_text_says(demo: Demo) -> None:
    """The lines show an alias with its extension, a trace, counters, no finding, and the metrics."""
    assert "user1+spring@example.com" in demo.paste(demo.line(" query virtual_alias_maps sales"))
    assert demo.paste(demo.line("anybody@example.org")) == "user1@example.org\n"
    assert "Answer: found" in demo.paste(demo.line(" trace "))
    assert "No findings" in demo.paste(demo.line(" check "))
    wait_until(
        lambda: " 0 " not in demo.paste(demo.line(" stats ")).split("virtual_alias_maps")[1][:25],
        "the crowd does not ask",
    )
    assert "mailmapd_lookups_total" in demo.paste(demo.line("curl"))


def test_status_page_is_where_it_says(demo: Demo) -> None:
    """The printed address is the status page's."""
    [address] = [line for line in demo.lines if line.startswith("http")]
    assert "<title>mailmapd</title>" in demo.paste(f"curl -s {address}")


def test_top_shows_the_crowd(demo: Demo) -> None:
    """`top` draws the lookups of the crowd, and q ends it."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        ["sh", "-c", demo.line(" top ")],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=ENVIRONMENT,
        cwd="/",
    ) as top:
        os.close(theirs)
        shown = b""
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and not (
            re.search(rb"[1-9]\d*\.?\d* lookups/s", shown) and b"virtual_mailbox_maps" in shown
        ):
            shown += os.read(ours, 65536)
        os.write(ours, b"q")
        assert top.wait(30) == 0
    os.close(ours)
    assert b"virtual_mailbox_maps" in shown
