"""The units, as systemd's own tools judge them. What they do when systemd runs is tested with the Debian package."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SYSTEMD = Path(__file__).parents[2] / "systemd"
EXPOSURE_LIMIT = 1.5
SOCKETS = sorted(path.name for path in SYSTEMD.glob("*.socket"))

pytestmark = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed"
)


def analyze(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["systemd-analyze", *arguments], capture_output=True, text=True, check=False
    )


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """Copies of all units that start the mailmapd of this virtual environment."""
    for path in SYSTEMD.glob("mailmapd*.*"):
        text = path.read_text().replace(
            "/usr/bin/mailmapd", str(Path(sys.executable).with_name("mailmapd"))
        )
        (tmp_path / path.name).write_text(text)
    return tmp_path


class UnitParser(configparser.ConfigParser):
    """Reads a unit as an INI file whose options keep their capitals."""

    def optionxform(self, optionstr: str) -> str:
        """Return the option's name as it is written."""
        return optionstr


def read(path: Path) -> UnitParser:
    unit = UnitParser(strict=False, interpolation=None, delimiters=["="])
    unit.read_string(path.read_text())
    return unit


def test_service_verifies(units: Path) -> None:
    """systemd-analyze verify finds nothing to say about the service."""
    done = analyze("verify", "--man=no", units / "mailmapd.service")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("name", SOCKETS)
def test_sockets_verify(units: Path, name: str) -> None:
    """systemd-analyze verify finds nothing to say about a socket unit; the template has its address from a drop-in."""
    if "@" in name:
        name = name.replace("@", "@virtual_alias_maps")
        dropin = units / f"{name}.d"
        dropin.mkdir()
        (dropin / "address.conf").write_text("[Socket]\nListenStream=127.0.0.1:2553\n")
    done = analyze("verify", "--man=no", "--recursive-errors=no", units / name)
    assert (done.returncode, done.stderr) == (0, "")


def test_exposure_is_small(units: Path) -> None:
    """The sandbox leaves an exposure below 1.5."""
    done = analyze(
        "security",
        "--offline=yes",
        "--threshold",
        str(int(EXPOSURE_LIMIT * 10)),
        "--no-pager",
        units / "mailmapd.service",
    )
    [level] = re.findall(r"Overall exposure level for mailmapd.service: ([0-9.]+)", done.stdout)
    assert done.returncode == 0, done.stdout
    assert float(level) < EXPOSURE_LIMIT


def test_memory_of_the_service() -> None:
    """Memory is bounded where the process may outlive others, and goes neither into a core file nor onto a disk."""
    text = (SYSTEMD / "mailmapd.service").read_text()
    said = dict(line.split("=", 1) for line in text.splitlines() if "=" in line and line[0] != "#")
    assert (said["LimitCORE"], said["MemorySwapMax"]) == ("0", "0")
    assert int(said["OOMScoreAdjust"]) < 0
    assert 10 < int(said["MemoryHigh"].rstrip("%")) < int(said["MemoryMax"].rstrip("%")) <= 50


def test_sockets_fit_the_sample_configuration() -> None:
    """Each socket unit has the name and address of a listener in the sample configuration.

    Enabling all hands over every socket.
    """
    sample = (SYSTEMD.parent / "configs" / "mailmapd.toml").read_text()
    for name in SOCKETS:
        socket = read(SYSTEMD / name)["Socket"]
        assert socket["Service"] == "mailmapd.service"
        if "@" in name:
            continue
        address = socket["ListenStream"]
        text = f"unix:{address}" if address.startswith("/") else address
        assert re.search(
            rf'^#?{socket["FileDescriptorName"]} = .*"{re.escape(text)}"', sample, re.MULTILINE
        ), name


def test_folders_of_the_sockets_are_made_and_writable() -> None:
    """tmpfiles.d makes the folder of every UNIX socket, and the sandbox lets the daemon write there."""
    made = {
        line.split()[1]
        for line in (SYSTEMD / "tmpfiles.d" / "mailmapd.conf").read_text().splitlines()
        if not line.startswith("#")
    }
    writable = {
        path.lstrip("-")
        for path in read(SYSTEMD / "mailmapd.service")["Service"]["ReadWritePaths"].split()
    }
    addresses = [read(SYSTEMD / name)["Socket"].get("ListenStream", "") for name in SOCKETS]
    assert (
        {str(Path(address).parent) for address in addresses if address.startswith("/")}
        == made
        == writable
    )


def test_account_is_accepted(tmp_path: Path) -> None:
    """systemd-sysusers makes the account and its group, without a login."""
    if shutil.which("systemd-sysusers") is None:
        pytest.skip("systemd-sysusers is not installed")
    (tmp_path / "etc").mkdir()
    file = SYSTEMD / "sysusers.d" / "mailmapd.conf"
    done = subprocess.run(
        ["systemd-sysusers", f"--root={tmp_path}", file],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    accounts = (tmp_path / "etc" / "passwd").read_text()
    assert re.search(
        r"^mailmapd:x:\d+:\d+:mailmapd:/run/mailmapd:/usr/sbin/nologin$", accounts, re.MULTILINE
    )
