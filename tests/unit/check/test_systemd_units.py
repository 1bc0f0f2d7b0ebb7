"""The shipped units and [listen]: what opens which listener, and what fails at the next restart."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from mailmapd.check.systemd_units import unit_findings
from mailmapd.config.loader import parse_config

UNITS = Path(__file__).parents[3] / "systemd"
SOCKETMAP = 'socketmap = ["unix:/var/spool/postfix/mailmapd/socketmap"]\n'
CONFIG = "/etc/mailmapd/mailmapd.toml"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A system with the shipped units, of which those of Postfix are enabled."""
    folder = tmp_path / "usr/lib/systemd/system"
    folder.mkdir(parents=True)
    for unit in UNITS.glob("mailmapd*"):
        shutil.copy(unit, folder)
    wants = tmp_path / "etc/systemd/system/sockets.target.wants"
    wants.mkdir(parents=True)
    (wants / "mailmapd.socket").symlink_to("/usr/lib/systemd/system/mailmapd.socket")
    return tmp_path


def found(root: Path, listen: str, file: str = CONFIG) -> list[tuple[str, str]]:
    """Return the findings' codes and remedies."""
    config = parse_config(f"[listen]\n{listen}", file)
    return [(finding.code, finding.remedy) for finding in unit_findings(config, root)]


def test_what_agrees(root: Path) -> None:
    """A listener whose unit is enabled is fine, and so is another configuration, or a host without the service."""
    assert found(root, SOCKETMAP) == []
    assert found(root, 'socketmap = ["unix:/elsewhere/socket"]\n', "/home/me/try.toml") == []
    (root / "usr/lib/systemd/system/mailmapd.service").unlink()
    assert found(root, 'socketmap = ["unix:/elsewhere/socket"]\n') == []


def test_what_is_not_enabled(root: Path) -> None:
    """A unit that is not enabled is a warning where the service can open the socket itself and mail depends on it."""
    assert found(root, SOCKETMAP + 'http = "127.0.0.1:9780"\n') == []
    assert found(root, SOCKETMAP + 'dict = ["unix:/run/mailmapd/dict"]\n') == [
        (
            "unit_disabled",
            "systemctl enable mailmapd-dict.socket; systemctl restart mailmapd.service",
        )
    ]


def test_nothing_is_enabled_yet(root: Path) -> None:
    """On a host that is being set up, where neither the service nor a socket is enabled, it is no
    finding that none is.
    """
    wants = root / "etc/systemd/system/sockets.target.wants"
    (wants / "mailmapd.socket").unlink()
    both = SOCKETMAP + 'dict = ["unix:/run/mailmapd/dict"]\n'
    assert found(root, both) == []
    (root / "etc/systemd/system/multi-user.target.wants").mkdir()
    (root / "etc/systemd/system/multi-user.target.wants/mailmapd.service").symlink_to("/x")
    assert [code for code, _ in found(root, both)] == ["unit_disabled", "unit_disabled"]


def test_what_the_next_start_cannot_open(root: Path) -> None:
    """A path outside of what the service may write to, which no unit opens, is a fault."""
    elsewhere = 'dict = ["unix:/var/spool/postfix-out/mailmapd/dict"]\n'
    assert found(root, SOCKETMAP + elsewhere) == [
        ("socket_unit", f"mailmapd snippets systemd --config {CONFIG}")
    ]
    drop_in = root / "etc/systemd/system/mailmapd-dict.socket.d/local.conf"
    drop_in.parent.mkdir()
    drop_in.write_text(
        "[Socket]\nListenStream=\nListenStream=/var/spool/postfix-out/mailmapd/dict\n"
    )
    assert found(root, SOCKETMAP + elsewhere) == [
        ("socket_unit", "systemctl enable --now mailmapd-dict.socket")
    ]
    wants = root / "etc/systemd/system/sockets.target.wants"
    (wants / "mailmapd-dict.socket").symlink_to("/usr/lib/systemd/system/mailmapd-dict.socket")
    assert found(root, SOCKETMAP + elsewhere) == []


def test_port_that_the_service_may_not_have(root: Path) -> None:
    """A port below 1024 is a fault without a unit, and any other is not."""
    assert [code for code, _ in found(root, SOCKETMAP + 'http = "127.0.0.1:80"\n')] == [
        "socket_unit"
    ]
    assert found(root, SOCKETMAP + 'http = "127.0.0.1:8080"\n') == []


def test_unit_that_nobody_serves(root: Path) -> None:
    """An enabled unit whose address is not in [listen] is a fault: its clients would wait."""
    assert found(root, 'control = "unix:/run/mailmapd/control"\n') == [
        ("unit_unserved", "systemctl disable --now mailmapd.socket"),
    ]


def test_instances_of_a_template(root: Path) -> None:
    """A map's own tcp_table unit is known by its instance's drop-in."""
    name = "mailmapd-tcp-table@aliases.socket"
    folder = root / "etc/systemd/system"
    (folder / "sockets.target.wants" / name).symlink_to(
        "/usr/lib/systemd/system/mailmapd-tcp-table@.socket"
    )
    (folder / f"{name}.d").mkdir()
    (folder / f"{name}.d/address.conf").write_text("[Socket]\nListenStream=127.0.0.1:253\n")
    table = '[listen.tcp_table]\naliases = "127.0.0.1:253"\n'
    maps = '[database.d]\ndriver = "sqlite"\npath = "/x"\n[table.t]\ndatabase = "d"\nquery = "SELECT \'%s\'"\n'
    maps += '[map.aliases]\ntables = ["t"]\n'
    assert found(root, SOCKETMAP + table + maps) == []
    assert found(root, SOCKETMAP) == [("unit_unserved", f"systemctl disable --now {name}")]
