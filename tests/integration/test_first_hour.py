"""The first hour on a booted Debian, in the order in which a person does things, with mail that
never stops meanwhile.
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from support.debian import DebianSystem
from support.debian_package import RELEASES, left_behind, package
from support.guide import blocks, commands, page, section
from support.kept_debian import CannotDownload
from support.mail_host import sample_config
from support.mariadb import private_directory
from support.namespaces import namespaces_allowed
from support.process import wait_until

PROJECT = Path(__file__).parents[2]
STREAM = (PROJECT / "tests/support/mail_stream.py").read_text()
CONFIG = "etc/mailmapd/mailmapd.toml"
EXAMPLES = "/usr/share/doc/mailmapd/examples"
PASSWORD = "a long random password"
KNOWN = ("you@example.com", "you+list@example.com", "info@example.com")
INSTALL, ACCOUNT, START = 0, 1, 3  # sections of docs/install.md
STOP_DATABASE = "systemctl stop 'mariadb*'"  # its socket, too, which would start it again
DENIED = "Access denied for user 'mailmapd'"

# Accounts, a mail folder and a certificate: what a mail host has before mailmapd comes.
MAIL_HOST = """
groupadd --system vmail
useradd --system --gid vmail --home-dir /home/vmail vmail
install -d -o vmail -g vmail -m 750 /home/vmail
ln -s ssl-cert-snakeoil.pem /etc/ssl/certs/mail.pem
ln -s ssl-cert-snakeoil.key /etc/ssl/private/mail.key
hash=$(doveadm pw -s SHA512-CRYPT -p secret)
mysql virtual_email <<SQL
INSERT INTO email_user VALUES ('you', 'you@example.com', '$hash', 'example.com', 'example.com/you/');
INSERT INTO email_aliase VALUES ('info@example.com', 'you@example.com');
SQL
"""

pytestmark = [
    pytest.mark.root,
    pytest.mark.slow,
    pytest.mark.timeout(900),  # a Debian system with four servers is downloaded and unpacked
    pytest.mark.skipif(
        shutil.which("debootstrap") is None or not namespaces_allowed(),
        reason="needs debootstrap and namespaces",
    ),
]


@dataclass(frozen=True)
class Dovecot:
    """A version of Dovecot, and how it knows its users: without mailmapd, and by it.

    `language` is that of the pages whose commands are pasted on such a host.
    """

    language: str
    version: str
    listen: str  # the line of [listen] that begins so
    unit: str
    unanswered: str  # what its log says when nobody serves there, as the page on trouble quotes it
    without: str


DOVECOTS = {
    "debian12": Dovecot(
        "en",
        "2.3",
        "dict = [",
        "mailmapd-dict.socket",
        "net_connect_unix(/run/mailmapd/dict) failed: No such file or directory",
        """passdb {
  driver = static
  args = password=secret
}
userdb {
  driver = static
  args = home=/home/vmail/%d/%n
}
""",
    ),
    "debian13": Dovecot(
        "zh",
        "2.4",
        "lookup_http = {",
        "mailmapd-lookup.socket",
        "lua: db-lua: mailmapd: 9003 connect(/run/mailmapd/lookup) failed: No such file or directory",
        """passdb static {
  password = secret
}
userdb static {
  fields {
    home = /home/vmail/%{user|domain}/%{user|username}
  }
}
""",
    ),
}


@dataclass
class Host:
    """A booted mail host, and the mail that flows through it."""

    system: DebianSystem
    release: str

    @property
    def dovecot(self) -> Dovecot:
        """Its Dovecot."""
        return DOVECOTS[self.release]

    def run(self, script: str, *, check: bool = True) -> str:
        """Run a script in a root shell and return what it prints."""
        return self.system.run("sh", "-ec", script, check=check).stdout

    def fails(self, script: str) -> str:
        """Run a script that must fail, and return what it prints."""
        done = self.system.run("sh", "-ec", script, check=False)
        assert done.returncode != 0, done.stdout
        return done.stdout

    def path(self, name: str) -> Path:
        """Return where a file of it is here."""
        return self.system.folder / name

    def configure(self, text: str) -> None:
        """Write mailmapd.toml, as an editor does that keeps owner and mode."""
        self.path(CONFIG).write_text(text)

    def status(self) -> str:
        """Return systemd's line about the daemon."""
        return self.run("systemctl show mailmapd.service --value --property StatusText").strip()

    def logged(self, words: str) -> bool:
        """Tell whether Postfix or Dovecot has said this."""
        return words in self.run("journalctl -u 'postfix*' -u dovecot --output cat")

    def use(self, blocks_of_dovecot: str) -> None:
        """Give Dovecot the whole shipped configuration, with these passdb and userdb."""
        text = self.path(f"{EXAMPLES}/dovecot/{self.dovecot.version}/dovecot.conf"[1:]).read_text()
        text = re.sub(r"^(passdb|userdb)\b.*?^}\n", "", text, flags=re.MULTILINE | re.DOTALL)
        # Every login asks anew.
        text = re.sub(r"^auth_cache_.*\n", "", text, flags=re.MULTILINE)
        self.path("etc/dovecot/dovecot.conf").write_text(text + blocks_of_dovecot)
        # A restart would wait for what is being delivered, a minute and a half at times.
        self.run("systemctl reload dovecot")

    def answers(self) -> list[tuple[float, str, str]]:
        """Return (time, whom about, what was said) of everything that the stream has heard."""
        log = self.path("root/stream.log")
        lines = log.read_text().splitlines() if log.exists() else []
        found = []
        for line in lines:
            when, who, said = line.split("\t")
            found.append((float(when), who, said))
        return found

    def wrong(self, since: float = 0.0, until: float = float("inf")) -> list[str]:
        """Return the answers that are not what they would be if nothing had happened."""
        right = dict.fromkeys(KNOWN, "250 ") | {
            "stranger@example.com": "550 5.1.1",
            "message": "250 ",
            "login": "OK",
        }
        return [
            f"{when:.1f} {who}: {said}"
            for when, who, said in self.answers()
            if since <= when < until and not said.startswith(right.get(who, "nothing"))
        ]

    def is_right(self, since: float = 0.0, until: float = float("inf")) -> None:
        """Fail if an answer was wrong, with what the servers say of it."""
        wrong = self.wrong(since, until)
        if wrong:
            first = float(wrong[0].split()[0])
            units = "-u dovecot -u mailmapd -u 'mailmapd*' -u 'postfix*' -u init.scope"
            span = f"--since @{first - 5:.0f} --until @{first + 3:.0f} --output short-precise"
            pytest.fail("\n".join([*wrong[:20], self.run(f"journalctl {units} {span}")]))

    def flows(self, *kinds: str) -> None:
        """Wait until the stream has asked anew, and heard the right answers."""
        since = time.time()
        for kind in kinds or ("you@example.com", "stranger@example.com"):
            wait_until(
                lambda kind=kind: any(
                    who == kind for when, who, _ in self.answers() if when > since
                ),  # type: ignore[misc]
                f"nothing is heard about {kind}: {self.answers()[-3:]}",
            )


@pytest.fixture(params=list(RELEASES))
def host(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Host]:
    """A mail host of each release, booted; the package lies in /root."""
    with private_directory() as folder:
        try:
            file = package(request.param, tmp_path_factory)
            with RELEASES[request.param]() as kept:
                system = kept.copy(folder / "root")
        except CannotDownload as error:
            pytest.skip(str(error))
        (system.folder / "root/dist").mkdir()
        shutil.copy(file, system.folder / "root/dist")
        (system.folder / "root/stream.py").write_text(STREAM)
        with system.booted():
            yield Host(system, request.param)


@contextmanager
def measured(what: str) -> Iterator[None]:
    """Print how long a step takes (`pytest -s` shows it)."""
    begin = time.monotonic()
    yield
    print(f"{time.monotonic() - begin:6.1f} s  {what}")


def test_the_first_hour(host: Host) -> None:
    """From a package to mail that is read, through restarts, mistakes and outages, and back: no
    lookup fails that did not have to.
    """
    dovecot = host.dovecot
    install = page("install", dovecot.language)

    with measured("install the package"):
        host.run("cd /root && " + commands(section(install, 2, INSTALL))[1])
        host.run(f"mysql < {EXAMPLES}/schemas/virtual_email.sql")
    with measured("an account of the database, its password, a mailbox"):
        parts = blocks(section(install, 2, ACCOUNT))
        host.system.run("mysql", data=next(code for language, code in parts if language == "sql"))
        host.system.run("sh", "-ec", commands(section(install, 2, ACCOUNT))[0], data=PASSWORD)
        host.run(MAIL_HOST)
        host.use(dovecot.without)
    with measured("start"):
        host.run(commands(section(install, 2, START))[0])
        assert "all databases up" in host.status()
    with measured("check, and switch Postfix"):
        credentials = "export CREDENTIALS_DIRECTORY=/etc/credstore\n"
        assert "No findings." in host.run(credentials + "mailmapd check")
        postfix = host.run(credentials + "mailmapd snippets postfix")
        host.run(postfix)
    host.run("systemd-run --unit stream python3 /root/stream.py")
    with measured("mail by Postfix alone"):
        host.flows("message", "stranger@example.com")
    host.is_right()

    with measured("a listener for Dovecot, and systemd's socket for it"):
        with_dovecot = sample_config(dovecot.listen, {})
        host.configure(with_dovecot)
        host.run("systemctl reload mailmapd")
        log = f"journalctl -u {dovecot.unit}"
        assert "refusing" in host.fails(
            f"systemctl enable --now {dovecot.unit} || {{ {log}; false; }}"
        )
        host.run(f"systemctl enable {dovecot.unit}\nsystemctl restart mailmapd.service")
        units = f"mailmapd.socket {dovecot.unit} mailmapd.service"
        assert host.run(f"systemctl is-active {units}").split() == ["active"] * 3
    with measured("switch Dovecot, and read"):
        snippet = host.run(credentials + f"mailmapd snippets dovecot-{dovecot.version}")
        files = re.split(r"^# ---- (\S+) ----.*\n", snippet, flags=re.MULTILINE)
        named = dict(zip(files[1::2], files[2::2], strict=True))
        for name in named.keys() - {"/etc/dovecot/conf.d/10-auth.conf"}:
            host.path(name[1:]).write_text(named[name])
        for command in re.findall(r"^#   (install .*)", snippet, flags=re.MULTILINE):
            host.run(command)
        authentication = named["/etc/dovecot/conf.d/10-auth.conf"]
        host.use(re.sub(r"^auth_cache_.*\n", "", authentication, flags=re.MULTILINE))
        host.path("root/reading").touch()
        wait_until(
            lambda: bool(re.search(r"auth \(dict\) +[1-9]", host.run("mailmapd stats"))),
            "Dovecot does not ask mailmapd",
        )
        host.flows("login", "message")
        for protocol, place in (("imaps", "INBOX;MAILINDEX=1"), ("pop3s", "1")):
            user = "--user you@example.com:secret"
            read = f"curl -sSk --max-time 20 {user} '{protocol}://localhost/{place}'"
            assert "It works." in host.run(read)
        if dovecot.version == "2.4":
            [block] = [
                command
                for command in commands(page("dovecot", dovecot.language))
                if "curl" in command
            ]
            shown = host.run(block.splitlines()[0].replace("info@", "you@"))
            assert '"home": "/home/vmail/example.com/you/"' in shown

    with measured("reload, restart, killed"):
        for what in ("reload", "restart", "kill --kill-whom=main --signal=KILL"):
            host.run(f"systemctl {what} mailmapd")
            host.flows("login", "message")
    host.is_right()

    with measured("a wrong configuration, mended"):
        host.configure(with_dovecot.replace('search = "exact"', 'serach = "exact"'))
        assert "serach" in host.fails("mailmapd reload")
        host.fails("systemctl reload mailmapd")
        status = host.status()
        assert "serach" in status
        host.flows("login", "message")
        host.fails("systemctl restart mailmapd")
        assert "serach" in host.run("journalctl --unit mailmapd --output cat")
        assert (
            host.run(f"systemctl is-active mailmapd.socket {dovecot.unit}").split()
            == ["active"] * 2
        )
        host.configure(with_dovecot)
        host.flows("login", "message")
        assert "all databases up" in host.status()
    host.is_right()

    with measured("the package again, as an upgrade does"):
        host.run("cd /root && apt-get install --reinstall ./dist/mailmapd_*.deb")
        host.flows("login", "message")
    with measured("the database away"):
        host.run(STOP_DATABASE)
        host.flows("login", "message")
        host.run("systemctl start mariadb")
    host.is_right()

    with measured("the database down at start, and a wrong password"):
        outage = time.time()
        host.run(f"{STOP_DATABASE}\nsystemctl restart mailmapd")
        assert "not reached yet" in host.status()
        code = "curl -s -o /dev/null -w '%{http_code}' http://127.0.0.1:9780/readyz"
        assert host.run(code) == "503"
        store = host.path("etc/credstore/mail-db-password")
        store.write_text("a mistyped password\n")
        host.run("systemctl restart mailmapd\nsystemctl start mariadb")
        for place in (
            "systemctl status mailmapd",
            "journalctl --unit mailmapd --output cat",
            "curl -s http://127.0.0.1:9780/readyz",
            credentials + "mailmapd check",
        ):
            wait_until(
                lambda place=place: DENIED in host.run(place, check=False),  # type: ignore[misc]
                f"the wrong password is not named by {place}",
            )
        store.write_text(PASSWORD + "\n")
        host.run("systemctl restart mailmapd")
        wait_until(lambda: "all databases up" in host.status(), "the database does not come back")
        host.run("postfix reload")  # each smtpd remembers what it could not resolve
        host.flows("login", "message")
        mended = time.time()
    host.flows("login", "message")
    host.is_right(since=mended)
    host.is_right(until=outage)
    # What could not be known was put off, and never denied or made up.
    put_off = re.compile(r"\S+ (\S+: 4\d\d |login: (error: b'\[UNAVAILABLE\]|abort: ))")
    assert [line for line in host.wrong(since=outage) if not put_off.match(line)] == []

    with measured("nobody there: the words of the logs"):
        host.run("systemctl stop 'mailmapd*.socket' mailmapd.service")
        trouble = page("trouble", dovecot.language)
        postfix_says = "warning: connect to mailmapd/socketmap: No such file or directory"
        for words in (postfix_says, dovecot.unanswered):
            assert words in trouble
            wait_until(partial(host.logged, words), words)
        host.run(f"systemctl start {units}")

    with measured("back, and remove"):
        host.run(next(line for line in postfix.splitlines() if "Undo: " in line).split("Undo: ")[1])
        host.run("systemctl stop stream")
        host.use(dovecot.without)
        removal = host.run("apt-get purge --yes mailmapd")
        assert "still asks" not in removal
        assert left_behind(host.system) == []
    heard = host.answers()
    print(len(heard), "answers,", len(host.wrong()), "put off while the database was not there")
