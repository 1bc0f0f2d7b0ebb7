from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mailmapd.cli import COMMANDS
from support.daemon import SOURCE

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    "mailmapd.8",
    "mailmapd.toml.5",
    *(f"mailmapd-{name}.1" for name in COMMANDS if name != "serve"),
]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("man")
    subprocess.run([sys.executable, ROOT / "scripts" / "manpages", folder], check=True)
    return folder


def test_complete(written: Path) -> None:
    """There is a page for the daemon, its configuration and every command, and no other."""
    assert sorted(path.name for path in written.iterdir()) == sorted(PAGES)
    assert sorted(path.name for path in (ROOT / "docs" / "man").iterdir()) == sorted(PAGES)


@pytest.mark.parametrize("page", PAGES)
def test_up_to_date(written: Path, page: str) -> None:
    """The manual pages say what --help and the sample configuration say now; scripts/manpages writes them."""
    assert (ROOT / "docs" / "man" / page).read_text() == (written / page).read_text()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(shell: str) -> None:
    """The program prints its completion for the common shells, and completes commands."""
    environment = os.environ | {"PYTHONPATH": str(SOURCE), "_MAILMAPD_COMPLETE": f"{shell}_source"}
    done = subprocess.run(
        [sys.executable, "-m", "mailmapd"],
        capture_output=True,
        text=True,
        env=environment,
        check=True,
    )
    assert "_MAILMAPD_COMPLETE" in done.stdout
    environment |= {
        "_MAILMAPD_COMPLETE": f"{shell}_complete",
        "COMP_WORDS": "mailmapd ve",
        "COMP_CWORD": "1" if shell != "fish" else "ve",
    }
    done = subprocess.run(
        [sys.executable, "-m", "mailmapd"],
        capture_output=True,
        text=True,
        env=environment,
        check=True,
    )
    assert "verify" in done.stdout
