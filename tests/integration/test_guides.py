"""The guide to the tutorial's installation, followed to the letter on a fresh Debian, in both
languages: its commands are read from the page.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.debian import DebianSystem
from support.debian12 import Debian12
from support.debian_package import package
from support.guide import LANGUAGES, commands, page, section
from support.kept_debian import CannotDownload
from support.mariadb import private_directory
from support.namespaces import namespaces_allowed
from support.process import wait_until

PROJECT = Path(__file__).parents[2]
TUTORIAL = (PROJECT / "tests/support/tutorial_host.sh").read_text()
WORKED_EXAMPLE = -2  # the section of docs/migrate.md before the last
BACK = -1  # its last part

pytestmark = [
    pytest.mark.root,
    pytest.mark.slow,
    pytest.mark.timeout(900),  # a Debian system with four servers is downloaded and unpacked
    pytest.mark.skipif(
        shutil.which("debootstrap") is None or not namespaces_allowed(),
        reason="needs debootstrap and namespaces",
    ),
]


@dataclass
class Base:
    """A Debian 12 with Postfix, Dovecot and MariaDB, and the package of mailmapd, which is not installed yet."""

    package: Path
    folder: Path

    @contextmanager
    def booted(self, name: str) -> Iterator[DebianSystem]:
        """Boot a copy of it on which the tutorial was followed to the letter, and remove it afterwards."""
        folder = self.folder / name
        with Debian12() as kept:
            system = kept.copy(folder)
        shutil.copy(self.package, folder / "mailmapd.deb")
        try:
            with system.booted():
                system.run("sh", "-c", TUTORIAL)
                system.run("dpkg", "--install", "/mailmapd.deb")
                yield system
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Base]:
    """The system that each test copies."""
    try:
        file = package("debian12", tmp_path_factory)
    except CannotDownload as error:
        pytest.skip(str(error))
    with private_directory() as folder:
        yield Base(file, folder)


def paste(system: DebianSystem, blocks: list[str]) -> str:
    """Paste blocks into one root shell and return what it prints; no command may fail."""
    script = "exec 2>&1\ntrap 'echo \"COMMAND FAILED: $BASH_COMMAND\"' ERR\n" + "\n".join(blocks)
    shown = system.run("bash", data=script).stdout
    assert "COMMAND FAILED" not in shown, shown
    return shown


def read_mail(system: DebianSystem, protocol: str, number: int) -> str:
    """Return a message, as an IMAP or a POP3 client gets it."""
    place = f"INBOX;MAILINDEX={number}" if protocol == "imaps" else str(number)
    options = ("--silent", "--show-error", "--insecure", "--max-time", "10")
    login = ("--user", "you@example.com:secret")
    return system.run(
        "curl", *options, *login, f"{protocol}://localhost/{place}", check=False
    ).stdout


@pytest.mark.parametrize("language", LANGUAGES)
def test_worked_example(base: Base, language: str) -> None:
    """Followed to the letter, the guide ends with mail that is delivered and read by IMAP and POP3;
    and so does the way back.
    """
    example = section(page("migrate", language), 2, WORKED_EXAMPLE)
    back = commands(section(example, 3, BACK))
    steps = [block for block in commands(example) if block not in back]
    assert (len(steps), len(back)) == (8, 1)
    with base.booted(language) as system:
        assert "It works." not in read_mail(system, "imaps", 1)

        shown = paste(system, steps)
        assert "0 differences" in shown
        assert shown.count("It works.") == 2  # by IMAP and by POP3
        assert re.search(r"auth \(dict\) +[1-9]", shown)
        assert re.search(r"virtual_mailbox_domains +[1-9]", shown)
        [switch] = [block for block in steps if "socketmap" in block]
        assert switch in shown  # what the page shows is what `import` prints

        # Only mailmapd asks the database now; every password has become a hash, however odd it was.
        settings = system.run("postconf", "-n").stdout + system.run("doveconf", "-n").stdout
        assert "mysql:" not in settings
        assert "driver = sql" not in settings
        plain = "SELECT COUNT(*) FROM email_user WHERE mail_password NOT LIKE '{SHA512-CRYPT}$%'"
        counted = system.run("mysql", "--skip-column-names", "virtual_email", "-e", plain)
        assert counted.stdout.split() == ["0"]
        login = ("doveadm", "auth", "test", "odd@example.com")
        assert "auth succeeded" in system.run(*login, " two words\\").stdout
        assert "auth failed" in system.run(*login, "two words\\", check=False).stdout

        paste(system, back)
        system.run("systemctl", "stop", "mailmapd.socket", "mailmapd-dict.socket", "mailmapd")
        paste(system, next(block for block in steps if "sendmail" in block).splitlines()[:2])
        for protocol in ("imaps", "pop3s"):
            assert "It works." in read_mail(system, protocol, 2)
        assert "socketmap" not in system.run("postconf", "-n").stdout


SMTP = """
import smtplib
with smtplib.SMTP("localhost", timeout=60) as session:
    session.ehlo()
    session.mail("someone@outside.example")
    print(*session.rcpt("stranger@example.com"))
"""
PART = "sed -i {} /etc/dovecot/conf.d/{}\nsystemctl restart dovecot"
WORKER = "10-master.conf"
TLS = "10-ssl.conf"


def look(system: DebianSystem, fault: str, *words: str) -> None:
    """Break something, and wait until Postfix and Dovecot, who meet it, have said all of these words."""
    shown = system.run("journalctl", "--show-cursor", "--lines", "0").stdout
    log = ("journalctl", "--output", "cat", "--after-cursor", shown.split("cursor: ")[1].strip())
    system.run("sh", "-ec", fault)
    said = system.run("python3", "-", data=SMTP, check=False).stdout
    system.run("sendmail", "you@example.com", data="Subject: lost\n\n.\n", check=False)
    read_mail(system, "imaps", 1)
    for word in words:
        wait_until(lambda word=word: word in said + system.run(*log).stdout, word)  # type: ignore[misc]


def test_words_of_the_logs(base: Base) -> None:
    """What both tables of trouble quote is what Postfix and Dovecot say when that very thing is wrong."""
    steps = commands(section(page("migrate"), 2, WORKED_EXAMPLE))[:-1]
    sockets = " ".join(f"mailmapd{kind}.socket" for kind in ("", "-dict", "-lookup"))
    faults = {
        f"systemctl stop {sockets} mailmapd.service": (
            "warning: connect to mailmapd/socketmap: No such file or directory",
            "Temporary lookup failure",
            "net_connect_unix(/run/mailmapd/dict) failed: No such file or directory",
        ),
        f"systemctl start {sockets}\nsystemctl start mailmapd.service\n"
        + PART.format(
            "'/^service auth-worker {/,/^}/s/^# *user = vmail/  user = vmail/'", WORKER
        ): ("Permission denied (euid=666(vmail)",),
        PART.format("'s/= </= /'", TLS): (
            "Can't load SSL certificate (ssl_cert setting): There is no valid PEM certificate",
        ),
        "postconf -X virtual_transport\npostfix reload": (
            "map is not allowed for security-sensitive data",
            "mail system configuration error",
        ),
    }
    at_first = (
        "Can't set cipher list to 'PROFILE=SYSTEM'",
        "auth: Fatal: sqlpool: Missing value in connect string",
    )
    every = [*at_first, *(words for several in faults.values() for words in several)]
    for language in LANGUAGES:
        text = page("trouble", language)
        assert [words for words in every if words not in text] == []
    with base.booted("words") as system:
        look(system, "true", *at_first)
        paste(system, steps)
        for fault, words in faults.items():
            look(system, fault, *words)
