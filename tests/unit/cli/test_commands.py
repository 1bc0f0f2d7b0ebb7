"""The command line itself: which command is meant."""

from __future__ import annotations

import os
import socket
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from mailmapd.cli import COMMANDS, mailmapd
from mailmapd.config.address import UnixAddress
from mailmapd.config.schema import ListenAddress
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


@pytest.mark.parametrize("there", [True, False])
def test_daemon_without_a_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: bool
) -> None:
    """Whoever has no configuration, or may not read it, asks at the usual socket where it is, and is
    told both ways out where it is not; a configuration that he named himself is never passed over.
    """
    path = tmp_path / "control"
    monkeypatch.setattr("mailmapd.cli.control.DEFAULT_CONFIG", str(tmp_path / "none.toml"))
    address = UnixAddress(str(path))
    monkeypatch.setattr("mailmapd.cli.control.DEFAULT_CONTROL", ListenAddress(address=address))
    with socket.socket(socket.AF_UNIX) as bound:
        if there:
            bound.bind(str(path))
        done = CliRunner().invoke(mailmapd, ["stats", "--config", str(tmp_path / "none.toml")])
        other = CliRunner().invoke(mailmapd, ["stats", "--config", str(tmp_path / "other.toml")])
    expected = (
        (75, f"{path}: no daemon answers") if there else (78, "No such file or directory; say")
    )
    assert (done.exit_code, expected[1] in done.output) == (expected[0], True), done.output
    assert (other.exit_code, "--socket unix:/run/mailmapd/control" in other.output) == (78, True)
