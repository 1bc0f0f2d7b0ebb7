"""The border to aiomysql holds with the oldest version that pyproject.toml allows; the rest of the
suite runs with the newest.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
LOCK = ROOT / "tests/data/aiomysql/oldest.lock"
LOGINS = (
    "tests/integration/databases/test_mysql_login.py",
    "tests/integration/databases/test_mysql_tls.py::test_tls",
    "tests/integration/databases/test_mysql_tls.py::test_caching_sha2",
    "tests/integration/databases/test_mysql_tls.py::test_server_without_tls",
    "tests/integration/hostile/test_stolen_passwords.py",
)
"""Every way to log in, and every way that is refused."""


def bounds() -> tuple[str, str]:
    """Return the oldest version that pyproject.toml allows, and the first that it does not."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = next(line for line in project["dependencies"] if line.startswith("aiomysql"))
    found = re.fullmatch(r"aiomysql>=([\d.]+),<([\d.]+)", wanted)
    assert found is not None, wanted
    return found[1], found[2]


def numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(".")]


def oldest() -> Path:
    """Return a folder with the oldest aiomysql alone, made once per machine."""
    lock = LOCK.read_bytes()
    parent = Path(tempfile.gettempdir()) / f"mailmapd-tests-{os.getuid()}"
    parent.mkdir(mode=0o700, exist_ok=True)
    folder = parent / f"aiomysql-{hashlib.sha256(lock).hexdigest()[:16]}"
    with (parent / "aiomysql.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        if not folder.exists():
            made = folder.with_suffix(".new")
            command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
            command += ["--disable-pip-version-check", "--require-hashes", "--upgrade"]
            subprocess.run([*command, "--target", str(made), "-r", str(LOCK)], check=True)
            made.rename(folder)
    return folder


def test_bounds() -> None:
    """The version under test is the oldest that is allowed, and the installed one is within the bounds, too."""
    low, high = bounds()
    assert f"aiomysql=={low}" in LOCK.read_text(encoding="utf-8")
    assert numbers(low) < numbers(version("aiomysql")) < numbers(high)


@pytest.mark.slow
@pytest.mark.servers
@pytest.mark.root
def test_every_login() -> None:
    """Every login, and every refusal of one, goes with the oldest aiomysql as with the newest."""
    environment = os.environ | {
        "PYTHONPATH": str(oldest()),
        "MAILMAPD_AIOMYSQL": f"{bounds()[0]}",
    }
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *LOGINS]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, check=False, capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    assert re.search(r"\d\d passed", done.stdout)
