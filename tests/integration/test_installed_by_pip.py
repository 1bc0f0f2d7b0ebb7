"""mailmapd without a package: pip's way of docs/install.md, in a booted Debian 13, at a place that
the unit's sandbox would hide.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from mailmapd.demo import mail_database
from support.debian import DebianSystem
from support.debian13 import Debian13
from support.debian_package import copy_source
from support.guide import commands, page, section
from support.kept_debian import CannotDownload
from support.mariadb import private_directory
from support.namespaces import namespaces_allowed

INSTALL = 0  # the section of docs/install.md
OTHER_SYSTEMS = 0  # its part
DOCUMENTED, ELSEWHERE = "/opt/mailmapd", "/root/.local/share/tools/mailmapd"
DATABASE = 'driver = "sqlite"\npath = "/var/lib/mail.sqlite"\n'
ASK = "postmap -q user1@example.com socketmap:unix:/var/spool/postfix/mailmapd/socketmap:{}"

pytestmark = [
    pytest.mark.root,
    pytest.mark.slow,
    pytest.mark.timeout(900),  # a Debian system is downloaded and unpacked
    pytest.mark.skipif(
        shutil.which("debootstrap") is None or not namespaces_allowed(),
        reason="needs debootstrap and namespaces",
    ),
]


@pytest.fixture
def system() -> Iterator[DebianSystem]:
    """A Debian 13 without mailmapd, and a clone of this repository in /usr/src."""
    with private_directory() as folder:
        try:
            with Debian13() as kept:
                system = kept.copy(folder / "root")
        except CannotDownload as error:
            pytest.skip(str(error))
        copy_source(system.folder)
        yield system


def test_units_follow_the_program(system: DebianSystem) -> None:
    """The commands of the page install it, and systemd starts, reloads and restarts it from below
    /root, where nothing else can be seen.
    """
    part = commands(section(section(page("install"), 2, INSTALL), 3, OTHER_SYSTEMS))
    by_pip, _, _, account, units = (text.replace(DOCUMENTED, ELSEWHERE) for text in part)
    # The libraries come in the versions that all tests have.
    lock = f"{ELSEWHERE}/bin/pip install -qq --require-hashes --requirement scripts/run-time.lock"
    system.run("sh", "-ec", f"cd /usr/src\npython3 -m venv {ELSEWHERE}\n{lock}\n{by_pip}")
    mail_database.create(system.folder / "var/lib/mail.sqlite")
    with system.booted():
        system.run("sh", "-ec", f"cd /usr/src\n{account}")
        file = system.folder / "etc/mailmapd/mailmapd.toml"
        text = file.read_text()
        begin, end = text.index('driver = "mysql"'), text.index("dbname = ")
        file.write_text(text[:begin] + DATABASE + text[text.index("\n", end) + 1 :])
        system.run("sh", "-ec", units)
        show = ("systemctl", "show", "mailmapd.service", "--value", "--property")
        assert f"path={ELSEWHERE}/bin/mailmapd " in system.run(*show, "ExecStart").stdout
        assert "all databases up" in system.run(*show, "StatusText").stdout
        ask = ASK.format("virtual_mailbox_maps")
        assert system.run("sh", "-ec", ask).stdout == "example.com/user1/\n"
        for what in ("reload", "restart"):
            system.run("systemctl", what, "mailmapd.service")
            assert system.run("sh", "-ec", ask).stdout == "example.com/user1/\n"
        process = system.run(*show, "MainPID").stdout.strip()
        seen = system.run("find", f"/proc/{process}/root/root", "-maxdepth", "4", "-type", "d")
        assert sorted(seen.stdout.split())[1:] == [
            f"/proc/{process}/root/root/.local",
            f"/proc/{process}/root/root/.local/share",
            f"/proc/{process}/root/root/.local/share/tools",
            f"/proc/{process}/root/root/.local/share/tools/mailmapd",
        ]
