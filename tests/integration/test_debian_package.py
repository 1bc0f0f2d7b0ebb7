"""The Debian package: built, installed in Debian 12 and in Debian 13, and started there by a real
systemd, with the commands of docs/install.md.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from mailmapd.demo import mail_database
from support.debian import DebianSystem
from support.debian_package import RELEASES, left_behind, package
from support.kept_debian import CannotDownload
from support.mariadb import private_directory
from support.namespaces import namespaces_allowed
from support.process import wait_until

PROJECT = Path(__file__).parents[2]
INSTALL = (PROJECT / "docs" / "install.md").read_text()
MISSING = [
    name for name in ("debootstrap", "dpkg-deb", "unshare", "nsenter") if shutil.which(name) is None
]

SQLITE = """\
driver = "sqlite"
path = "/var/lib/mail.sqlite"
"""
CONFIG = f"""
[listen]
socketmap = ["unix:/var/spool/postfix/mailmapd/socketmap"]
dict = [{{address = "unix:/run/mailmapd/dict", group = "dovecot", peers = ["dovecot"]}}]
http = "127.0.0.1:9780"
control = "unix:/run/mailmapd/control"
[database.mail]
{SQLITE}
[table.mailbox]
database = "mail"
query = "SELECT mail_dir FROM email_user WHERE mail_account = '%s'"
[map.virtual_mailbox_maps]
tables = ["mailbox"]
search = "address"
"""
UNITS = (
    "mailmapd.service",
    "mailmapd.socket",
    *(f"mailmapd-{name}.socket" for name in ("dict", "lookup", "http", "control")),
)
ASK = (
    "postmap",
    "-q",
    "user1@example.com",
    "socketmap:unix:/var/spool/postfix/mailmapd/socketmap:virtual_mailbox_maps",
)


pytestmark = [
    pytest.mark.root,
    pytest.mark.slow,
    pytest.mark.timeout(900),  # a whole Debian system is downloaded and unpacked
    pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}"),
    pytest.mark.skipif(not namespaces_allowed(), reason="this user may not make namespaces"),
]


def commands_of(section: str) -> list[str]:
    """Return the shell commands of the first code block in a section of docs/install.md."""
    block = re.search(
        rf"^## \d+\. {section}\n.*?^```sh\n(.*?)^```", INSTALL, re.MULTILINE | re.DOTALL
    )
    assert block, section
    return block[1].splitlines()


@pytest.fixture(scope="module", params=list(RELEASES))
def release(request: pytest.FixtureRequest) -> str:
    """A release that there is a package for."""
    return str(request.param)


@pytest.fixture(scope="module")
def file(release: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package that scripts/build-deb builds there."""
    try:
        return package(release, tmp_path_factory)
    except CannotDownload as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def system(release: str, file: Path) -> Iterator[DebianSystem]:
    """A system of this release with the package, configured for a SQLite database, not booted."""
    with private_directory() as folder:
        with RELEASES[release]() as kept:
            system = kept.copy(folder / "root")
        shutil.copy(file, system.folder / "mailmapd.deb")
        system.run("dpkg", "--install", "/mailmapd.deb")
        # Nothing asks before a test does.
        system.run("systemctl", "disable", "postfix.service", "dovecot.service", "mariadb.service")
        yield system


def configure(system: DebianSystem, config: str = CONFIG) -> None:
    """Make the system as if it had never been booted.

    The configuration and its database are there, no unit is enabled.
    """
    database = system.folder / "var" / "lib" / "mail.sqlite"
    database.unlink(missing_ok=True)
    mail_database.create(database)
    (system.folder / "etc" / "mailmapd" / "mailmapd.toml").write_text(config)
    system.run("systemctl", "disable", *UNITS)


def test_package_needs_nothing_but_debian(file: Path) -> None:
    """The control file has what dpkg needs, and the configuration is a conffile."""
    fields = subprocess.run(
        ["dpkg-deb", "--field", file], check=True, capture_output=True, text=True
    ).stdout
    assert re.search(
        r"^Depends: python3 \(>= 3\.\d+\), python3 \(<< 3\.\d+~\), libc6 .*systemd$",
        fields,
        re.MULTILINE,
    )
    assert subprocess.run(
        ["dpkg-deb", "--info", file, "conffiles"], check=True, capture_output=True, text=True
    ).stdout.split() == ["/etc/mailmapd/mailmapd.toml"]


@pytest.mark.skipif(shutil.which("lintian") is None, reason="lintian is not installed")
def test_lintian_finds_no_error(file: Path, tmp_path: Path) -> None:
    """The package keeps Debian's rules, as far as lintian knows them; its copyright file names every library."""
    done = subprocess.run(
        ["lintian", "--fail-on", "error", file], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    subprocess.run(["dpkg-deb", "--extract", file, tmp_path], check=True)
    text = (tmp_path / "usr" / "share" / "doc" / "mailmapd" / "copyright").read_text()
    assert text.startswith("Format: https://www.debian.org/doc/packaging-manuals/copyright-format/")
    assert re.search(r"^Files: .*usr/lib/mailmapd/aiomysql\*", text, re.MULTILINE)


def test_installation_prepares_and_starts_nothing(system: DebianSystem) -> None:
    """Installing makes the account and the folder for Postfix' socket, protects the configuration,
    and leaves Postfix as it was.
    """
    assert system.run("mailmapd", "--version").stdout.startswith("mailmapd, version ")
    assert re.match(
        r"uid=\d+\(mailmapd\) gid=\d+\(mailmapd\) groups=\d+\(mailmapd\)$",
        system.run("id", "mailmapd").stdout.strip(),
    )
    assert system.run(
        "stat", "-c", "%U %G %a", "/var/spool/postfix/mailmapd", "/etc/mailmapd/mailmapd.toml"
    ).stdout.splitlines() == [
        "mailmapd postfix 2750",
        "root mailmapd 640",
    ]
    assert "mailmapd" not in (system.folder / "etc/postfix/main.cf").read_text()
    assert list((system.folder / "etc/systemd/system").glob("*.wants/mailmapd*")) == []
    assert system.run("dpkg", "--verify", "mailmapd").stdout == ""


def test_manual_pages_and_completion_are_installed(system: DebianSystem) -> None:
    """Every manual page of the project is where man looks, and bash completes the commands."""
    pages = {
        f"man{page.suffix[1:]}/{page.name}.gz" for page in (PROJECT / "docs" / "man").iterdir()
    }
    manuals = system.folder / "usr/share/man"
    assert pages
    assert pages <= {str(path.relative_to(manuals)) for path in manuals.rglob("mailmapd*")}
    assert (
        "_MAILMAPD_COMPLETE"
        in (system.folder / "usr/share/bash-completion/completions/mailmapd").read_text()
    )


def test_units_verify_where_they_are_installed(system: DebianSystem) -> None:
    """systemd-analyze verify has nothing to say about the installed units."""
    assert system.run("systemd-analyze", "verify", "--man=no", *UNITS).stdout == ""


def test_life_under_systemd(system: DebianSystem) -> None:
    """Started as docs/install.md says: sandboxed, on systemd's sockets.

    Reloads, restarts without refusing, is watched, and stops.
    """
    configure(system)
    with system.booted():
        system.run("systemctl", "enable", "--now", "mailmapd-dict.socket")
        for command in commands_of("Start"):
            system.run("sh", "-ec", command)
        show = ("systemctl", "show", "mailmapd.service", "--value", "--property")
        assert system.run("systemctl", "is-active", "mailmapd.service").stdout == "active\n"
        assert "all databases up" in system.run(*show, "StatusText").stdout

        # Postfix asks, as the user that its daemons are.
        assert system.run(*ASK).stdout == "example.com/user1/\n"
        assert system.run("runuser", "-u", "postfix", "--", *ASK).stdout == "example.com/user1/\n"
        assert system.run("runuser", "-u", "nobody", "--", *ASK, check=False).returncode != 0

        # Two sockets are systemd's; the third was opened by the daemon itself, in a folder of its own.
        sockets = (
            "/var/spool/postfix/mailmapd/socketmap",
            "/run/mailmapd/dict",
            "/run/mailmapd/control",
        )
        assert system.run("stat", "-c", "%U %G %a", *sockets).stdout.splitlines() == [
            "mailmapd postfix 660",
            "mailmapd dovecot 660",
            "mailmapd mailmapd 660",
        ]

        # SIGHUP: the new configuration is in force, memory and sockets stay.
        with (system.folder / "etc/mailmapd/mailmapd.toml").open("a") as config:
            config.write('[map.again]\ntables = ["mailbox"]\nsearch = "exact"\n')
        system.run("systemctl", "reload", "mailmapd.service")
        again = (*ASK[:-1], ASK[-1].replace("virtual_mailbox_maps", "again"))
        wait_until(
            lambda: system.run(*again, check=False).stdout == "example.com/user1/\n",
            "the reload is not in force",
        )

        # A killed daemon is started again; who asks meanwhile waits at systemd's socket.
        before = system.run(*show, "MainPID").stdout
        system.run("systemctl", "kill", "--kill-whom=main", "--signal=KILL", "mailmapd.service")
        assert system.run(*ASK).stdout == "example.com/user1/\n"
        assert system.run(*show, "MainPID").stdout != before

        # A daemon that hangs is found by the watchdog.
        assert int(system.run(*show, "WatchdogUSec").stdout.strip().rstrip("s")) == 30

        system.run(
            "systemctl",
            "stop",
            "mailmapd.socket",
            "mailmapd-http.socket",
            "mailmapd-dict.socket",
            "mailmapd.service",
        )
        assert system.run(*show, "Result").stdout == "success\n"
        assert (
            "stopped"
            in system.run("journalctl", "--unit", "mailmapd.service", "--output", "cat").stdout
        )


def test_secret_reaches_the_daemon_alone(system: DebianSystem) -> None:
    """A password in /etc/credstore, readable by root only, is found by its name in password_file."""
    mysql = (
        'driver = "mysql"\nhosts = ["127.0.0.1:1"]\nuser = "mailmapd"\npassword_file = '
        '"mail-db-password"\ndbname = "mail"\n'
    )
    configure(system, CONFIG.replace(SQLITE, mysql))
    store = system.folder / "etc/credstore"
    with system.booted():
        system.run("systemctl", "start", "mailmapd-dict.socket")
        assert (
            system.run("systemctl", "start", "mailmapd.service", check=False).returncode != 0
        )  # no such secret
        store.mkdir(mode=0o700, exist_ok=True)
        (store / "mail-db-password").write_text("secret-of-the-test\n")
        (store / "mail-db-password").chmod(0o600)
        system.run("systemctl", "start", "mailmapd.service")
        assert "secret-of-the-test" not in system.run("journalctl", "--output", "json").stdout


# A Dovecot that asks, as `mailmapd snippets` writes it.
ASKING = {
    "debian12": """passdb {
  driver = dict
  args = /etc/dovecot/mailmapd-auth.conf.ext
}
""",
    "debian13": """passdb lua {
  lua_file = /etc/dovecot/mailmapd.lua
}
""",
}
LEFT = {
    "debian12": ("mailmapd-auth.conf.ext", "uri = proxy:/run/mailmapd/dict:auth\n"),
    "debian13": ("mailmapd.lua", "-- /run/mailmapd/lookup\n"),
}


def test_removal_warns_and_leaves_nothing(system: DebianSystem, release: str) -> None:
    """Removing the package says who still asks it, and no other, and stops everything; purging it
    leaves no file and no account.
    """
    configure(system)
    name, text = LEFT[release]
    (system.folder / "etc/dovecot" / name).write_text(text)
    asking = system.folder / "etc/dovecot/conf.d/99-asking.conf"
    table = "socketmap:unix:mailmapd/socketmap:virtual_mailbox_maps"
    prerm = ("/var/lib/dpkg/info/mailmapd.prerm", "remove")
    with system.booted():
        assert "still asks" not in system.run(*prerm).stdout
        system.run("systemctl", "enable", "--now", "mailmapd.socket", "mailmapd-dict.socket")
        system.run("systemctl", "enable", "--now", "mailmapd.service")
        system.run("postconf", "-e", f"virtual_mailbox_maps={table}")
        asking.write_text(ASKING[release])
        removal = system.run("dpkg", "--remove", "mailmapd").stdout
        assert "main.cf still asks mailmapd: virtual_mailbox_maps" in removal
        assert (
            f"Dovecot still asks mailmapd, see: doveconf -n | grep /etc/dovecot/{name}" in removal
        )
        units = json.loads(
            system.run(
                "systemctl", "list-units", "--output=json", "--state=active", "mailmapd*"
            ).stdout
        )
        assert units == []
        system.run("dpkg", "--purge", "mailmapd")
        assert left_behind(system) == []
        assert "mailmapd" not in (system.folder / "etc" / "passwd").read_text()
        assert "mailmapd" not in (system.folder / "etc" / "group").read_text()
