"""The command line itself: which command is meant."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from mailmapd.cli import COMMANDS, mailmapd


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
