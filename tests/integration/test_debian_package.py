"""The Debian package: built, installed in a Debian 12 system, and started there by a real systemd,
with the commands of docs/install.md.
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
from support.debian import CannotDownload, DebianSystem
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


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package that scripts/build-deb builds."""
    folder = tmp_path_factory.mktemp("deb")
    subprocess.run([PROJECT / "scripts" / "build-deb", folder], check=True, capture_output=True)
    [path] = folder.glob("mailmapd_*.deb")
    return path


@pytest.fixture(scope="module")
def system(package: Path) -> Iterator[DebianSystem]:
    """A Debian 12 with Postfix and the package, configured for a SQLite database, not booted."""
    with private_directory() as folder:
        try:
            with DebianSystem(
                folder / "root",
                ["systemd-sysv", "dbus", "python3", "procps", "postfix", "ca-certificates"],
            ) as system:
                shutil.copy(package, system.folder / "mailmapd.deb")
                system.run("groupadd", "--system", "dovecot")
                system.run("useradd", "--system", "--gid", "dovecot", "dovecot")
                system.run("dpkg", "--install", "/mailmapd.deb")
                yield system
        except CannotDownload as error:
            pytest.skip(str(error))


def configure(system: DebianSystem, config: str = CONFIG) -> None:
    """Make the system as if it had never been booted.

    The configuration and its database are there, no unit is enabled.
    """
    database = system.folder / "var" / "lib" / "mail.sqlite"
    database.unlink(missing_ok=True)
    mail_database.create(database)
    (system.folder / "etc" / "mailmapd" / "mailmapd.toml").write_text(config)
    system.run("systemctl", "disable", *UNITS)


def test_package_needs_nothing_but_debian(package: Path) -> None:
    """The control file has what dpkg needs, and the configuration is a conffile."""
    fields = subprocess.run(
        ["dpkg-deb", "--field", package], check=True, capture_output=True, text=True
    ).stdout
    assert re.search(
        r"^Depends: python3 \(>= 3\.\d+\), python3 \(<< 3\.\d+~\), libc6 .*systemd$",
        fields,
        re.MULTILINE,
    )
    assert subprocess.run(
        ["dpkg-deb", "--info", package, "conffiles"], check=True, capture_output=True, text=True
    ).stdout.split() == ["/etc/mailmapd/mailmapd.toml"]


@pytest.mark.skipif(shutil.which("lintian") is None, reason="lintian is not installed")
def test_lintian_finds_no_error(package: Path, tmp_path: Path) -> None:
    """The package keeps Debian's rules, as far as lintian knows them; its copyright file names every library."""
    done = subprocess.run(
        ["lintian", "--fail-on", "error", package], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    subprocess.run(["dpkg-deb", "--extract", package, tmp_path], check=True)
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
        system.run("systemctl", "kill", "--signal=KILL", "mailmapd.service")
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


def test_the_first_hour(system: DebianSystem) -> None:
    """Postfix first, then Dovecot, as a person tries it: at no moment does a lookup of Postfix fail
    that did not have to.
    """
    dovecot = re.search(r"^dict = .*\n", CONFIG, re.MULTILINE)
    assert dovecot
    postfix_only = CONFIG.replace(dovecot[0], "")
    configure(system, postfix_only)
    file = system.folder / "etc" / "mailmapd" / "mailmapd.toml"
    database = system.folder / "var" / "lib" / "mail.sqlite"
    away = database.with_name("away")
    dict_service = """[table.passdb]
database = "mail"
dovecot_query = "SELECT mail_account AS user FROM email_user WHERE mail_account = '%u'"
[dict.auth]
passdb = "passdb"
"""
    connect = "import socket; socket.socket(socket.AF_UNIX).connect('/run/mailmapd/dict')"

    def answers() -> bool:
        return system.run(*ASK, check=False).stdout == "example.com/user1/\n"

    with system.booted():
        # A database that is down at start: not found is never the answer, and nobody calls it up.
        database.rename(away)
        for command in commands_of("Start"):
            system.run("sh", "-ec", command)
        status = ("systemctl", "show", "mailmapd.service", "--value", "--property", "StatusText")
        assert "not reached yet" in system.run(*status).stdout
        assert system.run(*ASK, check=False).returncode == 1
        away.rename(database)
        wait_until(answers, "the database does not come back")
        wait_until(
            lambda: "all databases up" in system.run(*status).stdout,
            "the status does not say that the database is back",
        )

        # Dovecot is added: the reload opens its socket, for its group alone.
        file.write_text(CONFIG + dict_service)
        system.run("systemctl", "reload", "mailmapd.service")
        system.run("runuser", "-u", "dovecot", "--", "python3", "-c", connect)
        nobody = system.run("runuser", "-u", "nobody", "--", "python3", "-c", connect, check=False)
        assert "PermissionError" in nobody.stdout
        # systemd cannot take it over while mailmapd runs, and says so; nothing else happens.
        late = system.run("systemctl", "enable", "--now", "mailmapd-dict.socket", check=False)
        assert late.returncode != 0
        assert answers()
        system.run("systemctl", "restart", "mailmapd.service")
        assert answers()
        sockets = ("mailmapd.socket", "mailmapd-dict.socket")
        assert system.run("systemctl", "is-active", *sockets).stdout == "active\nactive\n"
        system.run("runuser", "-u", "dovecot", "--", "python3", "-c", connect)

        # A wrong configuration: the reload fails, and everybody is served as before.
        file.write_text(CONFIG + dict_service + "nonsense\n")
        assert system.run("systemctl", "reload", "mailmapd.service", check=False).returncode != 0
        assert answers()
        # A restart with it cannot be served. The sockets stay, and once it is mended all is well by itself.
        assert system.run("systemctl", "restart", "mailmapd.service", check=False).returncode != 0
        show = ("systemctl", "show", "mailmapd.service", "--value", "--property", "ExecMainStatus")
        assert system.run(*show).stdout == "78\n"
        assert system.run("systemctl", "is-active", *sockets).stdout == "active\nactive\n"
        journal = ("journalctl", "--unit", "mailmapd.service", "--output", "cat")
        assert "is not TOML" in system.run(*journal).stdout
        file.write_text(CONFIG + dict_service)
        assert answers()
        assert system.run("systemctl", "is-active", *sockets).stdout == "active\nactive\n"


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


def test_removal_warns_and_leaves_nothing(system: DebianSystem) -> None:
    """Removing the package says what still asks it and stops everything; purging it leaves no file and no account."""
    configure(system)
    with system.booted():
        system.run("systemctl", "enable", "--now", "mailmapd.socket", "mailmapd-dict.socket")
        system.run("systemctl", "enable", "--now", "mailmapd.service")
        table = "socketmap:unix:mailmapd/socketmap:virtual_mailbox_maps"
        system.run("postconf", "-e", f"virtual_mailbox_maps={table}")
        removal = system.run("dpkg", "--remove", "mailmapd").stdout
        assert "main.cf still asks mailmapd: virtual_mailbox_maps" in removal
        units = json.loads(
            system.run(
                "systemctl", "list-units", "--output=json", "--state=active", "mailmapd*"
            ).stdout
        )
        assert units == []
        system.run("dpkg", "--purge", "mailmapd")
        left = system.run("find", "/", "-xdev", "-name", "*mailmapd*", "-not", "-path", "/proc/*")
        assert left.stdout.splitlines() == ["/mailmapd.deb"]
        assert "mailmapd" not in (system.folder / "etc" / "passwd").read_text()
        assert "mailmapd" not in (system.folder / "etc" / "group").read_text()
