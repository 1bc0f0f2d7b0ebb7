"""The command line itself: which command is meant."""

from __future__ import annotations

import os
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from mailmapd.cli import COMMANDS, mailmapd
from mailmapd.engine.orders import FlushReport


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("chek", "No such command 'chek'. Did you mean 'check'?"),
        ("quary", "No such command 'quary'. Did you mean 'query'?"),
        ("zzz", "No such command 'zzz'.\n"),
    ],
)
def test_mistyped_command(written: str, said: str) -> None:
    """A mistyped command names the one that was meant, where there is one."""
    done = CliRunner().invoke(mailmapd, [written])
    assert (done.exit_code, said in done.output) == (2, True), done.output


def test_every_command_helps() -> None:
    """Each command has a help text with an example."""
    for name in COMMANDS:
        done = CliRunner().invoke(mailmapd, [name, "--help"])
        assert done.exit_code == os.EX_OK
        assert "Example:" in done.output, name


def test_import_of_nothing(tmp_path: Path) -> None:
    """An import that is to read nothing writes nothing: an empty file would take a configuration's place."""
    path = tmp_path / "mailmapd.toml"
    done = CliRunner().invoke(mailmapd, ["import", "--no-postfix", "--output", str(path)])
    assert (done.exit_code, "--dovecot-sql FILE" in done.output) == (2, True), done.output
    assert not path.exists()


def test_why_a_flush_was_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the server between hosts says as it refuses a flush is shown as text."""
    report = FlushReport({}, failure="the other hosts were not told: \x1b[2Jforged")
    daemon = SimpleNamespace(flush=lambda **_: report)
    monkeypatch.setattr("mailmapd.cli.flush.connect", lambda *_: nullcontext(daemon))
    done = CliRunner().invoke(mailmapd, ["flush", "--all"])
    assert done.exit_code == 75
    assert "\\x1b[2Jforged" in done.output
