"""Dovecot 2.4 asks by its Lua script: what it makes of each answer, and of none.

In the Debian 13 system, from generated settings.
"""

from __future__ import annotations

import signal
import socket
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from http.server import BaseHTTPRequestHandler
from socketserver import ThreadingMixIn, UnixStreamServer
from threading import Thread
from urllib.parse import parse_qs

import pytest

from mailmapd.config.loader import load_config
from mailmapd.snippets.dovecot import dovecot_24
from support.daemon import Daemon
from support.debian13 import Debian13
from support.mariadb import MariaDB, private_directory
from support.process import listens, wait_until
from support.shipped import shipped

pytestmark = [
    pytest.mark.servers,
    pytest.mark.root,
    pytest.mark.timeout(1800),
]  # the first test may have to download a system

DATABASE = "dovecot24"
SCHEMA = """
CREATE TABLE mailbox (username varchar(255) COLLATE utf8mb4_bin, password varchar(255), home varchar(255), service varchar(20), extra blob);
INSERT INTO mailbox VALUES
  ('alice@example.com', '{PLAIN}secret', '/srv/mail/alice', 'imap', NULL),
  ('fresh@example.com', '{PLAIN}secret', '/srv/mail/fresh', 'imap', NULL),
  ('hash@example.com', '{SHA512-CRYPT}HASH', '/srv/mail/hash', 'imap', NULL),
  ('unprefixed@example.com', 'HASH', '/srv/mail/hash', 'imap', NULL),
  ('twin@example.com', '{PLAIN}secret', '/srv/mail/a', 'imap', NULL), ('twin@example.com', '{PLAIN}secret', '/srv/mail/b', 'imap', NULL),
  ('nopassword@example.com', NULL, '/srv/mail/nopassword', 'imap', NULL),
  ('renamed@example.com', '{PLAIN}secret', '/srv/mail/renamed', 'imap', NULL),
  ('zoë@example.com', '{PLAIN}secret', '/srv/mail/zoë', 'imap', 'tab\tquote " backslash \\\\ €😀');
"""
QUERIES = """\
default_pass_scheme = SHA512-CRYPT
password_query = SELECT username AS user, password, home AS userdb_home, 5000 AS userdb_uid, 5000 AS userdb_gid, \\
  'maildir:~/Maildir' AS userdb_mail FROM mailbox WHERE username = '%u' AND service = '%Ls'
user_query = SELECT home, 5000 AS uid, 5000 AS gid, 'maildir:~/Maildir' AS mail, '*:bytes=1048576' AS quota_rule, extra, \\
  IF(username = 'renamed@example.com', 'new@example.org', NULL) AS username, \\
  IF(username = 'renamed@example.com', 'example.net', NULL) AS domain \\
  FROM mailbox WHERE username = '%u'
iterate_query = SELECT DISTINCT username AS user FROM mailbox
"""
SETTINGS = """\
dovecot_config_version = 2.4.1
dovecot_storage_version = 2.4.1
base_dir = /run/dovecot-lua
log_path = /var/log/dovecot-lua.log
protocols =
ssl = no
auth_allow_cleartext = yes
auth_username_chars =
auth_failure_delay = 0
first_valid_uid = 0
"""
EXIT_NO_USER, EXIT_TEMPORARY, EXIT_REFUSED = 67, 75, 77


@dataclass(frozen=True)
class Dovecot24:
    """The running Dovecot, the daemon it asks, and the daemon's database."""

    system: Debian13
    daemon: Daemon
    database: MariaDB

    def doveadm(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a doveadm command."""
        return self.system.run(
            "doveadm", "-c", "/etc/dovecot-lua/dovecot.conf", *arguments, check=False
        )

    def login(self, user: str, password: str = "secret", service: str = "imap") -> int:
        """Return the exit status of `doveadm auth test`."""
        return self.doveadm("auth", "test", "-x", f"service={service}", user, password).returncode


@pytest.fixture(scope="module")
def dovecot(mariadb: MariaDB) -> Iterator[Dovecot24]:
    """Dovecot 2.4 with the generated settings and without a cache of its own."""
    hashed = subprocess.run(
        ["doveadm", "pw", "-s", "SHA512-CRYPT", "-p", "secret"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    mariadb.run_sql(
        f"DROP DATABASE IF EXISTS {DATABASE}; CREATE DATABASE {DATABASE} CHARACTER SET utf8mb4"
    )
    mariadb.run_sql(SCHEMA.replace("HASH", hashed.partition("}")[2]), database=DATABASE)
    mariadb.grant(DATABASE, "geheim", DATABASE)
    with ExitStack() as stack:
        system = stack.enter_context(Debian13())
        directory = stack.enter_context(private_directory())
        socket = system.path("run/mailmapd-lua")
        connect = (
            f"connect = host={mariadb.socket} dbname={DATABASE} user={DATABASE} password=geheim\n"
        )
        (directory / "sql.conf").write_text(f"driver = mysql\n{connect}{QUERIES}")
        accounts = [line.split(":") for line in system.path("etc/passwd").read_text().splitlines()]
        peer = next(fields[2] for fields in accounts if fields[0] == "dovecot")
        config = (
            f'[listen]\nlookup_http = {{address = "unix:{socket}", mode = '
            f'"0666", peers = ["{peer}"]}}\n[dict.auth]\ndovecot_sql = "sql.conf"\n'
        )
        daemon = stack.enter_context(Daemon(directory, config))
        snippet = dovecot_24(load_config(daemon.config), "/etc/dovecot-lua").replace(
            str(socket), "/run/mailmapd-lua"
        )
        system.write("etc/dovecot-lua/mailmapd.lua", shipped("dovecot/2.4/mailmapd.lua"))
        system.write(
            "etc/dovecot-lua/dovecot.conf",
            SETTINGS + snippet.replace("auth_cache_size = 10M", "auth_cache_size = 0"),
        )
        process = system.start(
            ["dovecot", "-F", "-c", "/etc/dovecot-lua/dovecot.conf"], directory / "dovecot.out"
        )
        stack.callback(process.stop)
        process.wait_ready(
            partial(listens, system.path("run/dovecot-lua/auth-userdb")), "Dovecot 2.4"
        )
        yield Dovecot24(system, daemon, mariadb)


@pytest.mark.parametrize(
    "user", ["alice@example.com", "hash@example.com", "unprefixed@example.com", "zoë@example.com"]
)
def test_login(dovecot: Dovecot24, user: str) -> None:
    """The right password is accepted, a wrong one refused, and a service that the query excludes as well."""
    assert dovecot.login(user) == 0
    assert dovecot.login(user, "wrong") == EXIT_REFUSED
    assert dovecot.login(user, service="pop3") == EXIT_REFUSED


def test_unknown_user(dovecot: Dovecot24) -> None:
    """An unknown user is refused, and `doveadm user` says that there is none."""
    assert dovecot.login("nobody@example.com") == EXIT_REFUSED
    assert dovecot.doveadm("user", "nobody@example.com").returncode == EXIT_NO_USER


def test_no_password(dovecot: Dovecot24) -> None:
    """A user whose password is NULL cannot log in, with any password or none."""
    assert dovecot.login("nopassword@example.com") == EXIT_REFUSED
    assert dovecot.login("nopassword@example.com", "") == EXIT_REFUSED


def test_user_fields(dovecot: Dovecot24) -> None:
    """User fields arrive under their names in 2.4, with every character as it is in the database."""
    fields = dict(
        line.split("\t", 1)
        for line in dovecot.doveadm("user", "zoë@example.com").stdout.splitlines()
        if "\t" in line
    )
    assert fields["mail_driver"] == "maildir"
    assert fields["mail_path"] == "/srv/mail/zoë/Maildir"
    assert fields["quota_storage_size"] == "1048576B"
    assert fields["extra"] == 'tab\tquote " backslash \\ €😀'


def test_prefetch(dovecot: Dovecot24) -> None:
    """A login takes the user fields from the password query, without a second one."""
    dovecot.database.log_queries()
    done = dovecot.doveadm("auth", "login", "-x", "service=imap", "fresh@example.com", "secret")
    assert "home=/srv/mail/fresh" in done.stdout
    assert "mail_path=" in done.stdout
    assert dovecot.database.count_selects(DATABASE) == 1
    dovecot.database.log_queries(False)


def test_names_count_in_their_order(dovecot: Dovecot24) -> None:
    """A user name that several columns change is the one that their order makes, as with Dovecot's own SQL driver."""
    assert "new@example.net" in dovecot.doveadm("user", "renamed@example.com").stdout


@contextmanager
def other_settings(dovecot: Dovecot24, old: str, new: str) -> Iterator[None]:
    """Let the script have other settings for a while."""
    path = "etc/dovecot-lua/dovecot.conf"
    text = dovecot.system.path(path).read_text()
    dovecot.system.write(path, text.replace(old, new))
    try:
        dovecot.doveadm("reload")
        yield
    finally:
        dovecot.system.write(path, text)
        dovecot.doveadm("reload")
        wait_until(
            lambda: dovecot.login("alice@example.com") == 0, "a login with the right settings"
        )


@pytest.mark.parametrize("variables", ["user", "user local_ip"])
def test_missing_variable(dovecot: Dovecot24, variables: str) -> None:
    """A script that does not send what the query uses makes nobody unknown."""
    with other_settings(dovecot, "variables = user protocol\n", f"variables = {variables}\n"):
        wait_until(
            lambda: dovecot.login("alice@example.com") == EXIT_TEMPORARY, "a temporary failure"
        )


@pytest.mark.parametrize("variables", ["user service", "user password"])
def test_unknown_variable(dovecot: Dovecot24, variables: str) -> None:
    """A variable that Dovecot 2.4 does not have, or that must not leave it, stops the script with
    its name in the log.
    """
    with other_settings(dovecot, "variables = user protocol\n", f"variables = {variables}\n"):
        name = variables.split()[1]
        log = dovecot.system.path("var/log/dovecot-lua.log")
        wait_until(
            lambda: dovecot.login("alice@example.com") == EXIT_TEMPORARY, "a temporary failure"
        )
        assert (
            f"mailmapd.lua: no variable of Dovecot 2.4 that can be sent: {name}" in log.read_text()
        )


FOUND = b'{"result": "found", "fields": {"password": "{PLAIN}secret"'
NO_ANSWERS = {
    "right": (200, FOUND + b"}}\n"),
    "unknown": (200, b'{"result": "not_found"}\n'),
    "error": (500, b"<html>not_found</html>"),
    "missing": (404, b'{"result": "not_found"}\n'),
    "moved": (302, b'{"result": "not_found"}\n'),
    "empty": (200, b""),
    "words": (200, b'not_found {"result": "not_found"} not_found'),
    "more": (200, b'{"result": "not_found"}{"result": "found"}'),
    "html": (200, b"<html></html>"),
    "cut": (200, FOUND),
    "half": (200, FOUND + b"}"),
    "number": (200, b'{"result": "found", "fields": {"password": 1}}'),
    "null": (200, b'{"result": "found", "fields": null}'),
    "list": (200, b'{"result": "found", "fields": ["password"]}'),
    "nested": (200, b'{"result": "found", "fields": {"password": {"a": "b"}}}'),
    "escape": (200, b'{"result": "found", "fields": {"password": "\\x"}}'),
    "unicode": (200, b'{"result": "found", "fields": {"password": "\\ud83d\\u"}}'),
    "nul": (200, b'{"result": "found", "fields": {"password": "{PLAIN}secret\\u0000"}}'),
    "closed": (0, b""),
}


class OddServer(ThreadingMixIn, UnixStreamServer):
    """Answers what NO_ANSWERS holds under the user's name."""

    daemon_threads = True
    request_queue_size = 128  # every name is asked at the same time

    def get_request(self) -> tuple[socket.socket, tuple[str, int]]:
        """Give the client an address, which `BaseHTTPRequestHandler` wants."""
        return super().get_request()[0], ("", 0)


class OddAnswers(BaseHTTPRequestHandler):
    """See `OddServer`."""

    def do_POST(self) -> None:
        """Answer a lookup."""
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        status, text = NO_ANSWERS[parse_qs(body)["user"][0]]
        self.close_connection = True
        if not status:
            return
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


@pytest.fixture
def odd_server(dovecot: Dovecot24) -> Iterator[None]:
    """A server that the script asks in mailmapd's place."""
    path = dovecot.system.path("run/odd-lua")
    path.unlink(missing_ok=True)
    with (
        OddServer(str(path), OddAnswers) as server,
        other_settings(dovecot, "/run/mailmapd-lua", "/run/odd-lua"),
    ):
        path.chmod(0o666)
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            wait_until(lambda: dovecot.login("right") == 0, "a login by way of the odd server")
            yield
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.usefixtures("odd_server")
def test_what_is_no_answer(dovecot: Dovecot24) -> None:
    """Nothing but mailmapd's own words makes a user unknown: every other answer is a temporary failure."""
    with ThreadPoolExecutor(len(NO_ANSWERS)) as pool:  # Dovecot lets those wait whom it refuses
        logins = dict(zip(NO_ANSWERS, pool.map(dovecot.login, NO_ANSWERS), strict=True))
        users = dict(
            zip(
                NO_ANSWERS,
                pool.map(lambda name: dovecot.doveadm("user", name).returncode, NO_ANSWERS),
                strict=True,
            )
        )
    assert logins == dict.fromkeys(NO_ANSWERS, EXIT_TEMPORARY) | {
        "right": 0,
        "unknown": EXIT_REFUSED,
    }
    assert users == dict.fromkeys(NO_ANSWERS, EXIT_TEMPORARY) | {
        "right": 0,
        "unknown": EXIT_NO_USER,
    }


def test_two_rows_are_temporary(dovecot: Dovecot24) -> None:
    """Several rows for a user are a temporary failure."""
    assert dovecot.login("twin@example.com") == EXIT_TEMPORARY
    assert dovecot.doveadm("user", "twin@example.com").returncode == EXIT_TEMPORARY


def test_list(dovecot: Dovecot24) -> None:
    """Every user is listed."""
    listed = dovecot.doveadm("user", "*").stdout.split()
    assert sorted(listed) == [
        "alice@example.com",
        "fresh@example.com",
        "hash@example.com",
        "nopassword@example.com",
        "renamed@example.com",
        "twin@example.com",
        "unprefixed@example.com",
        "zoë@example.com",
    ]


def test_without_mailmapd(dovecot: Dovecot24) -> None:
    """Without mailmapd everything is a temporary failure, nobody is unknown, and a restart is noticed at once."""
    dovecot.daemon.process.send_signal(signal.SIGKILL)
    dovecot.daemon.process.wait()
    assert dovecot.login("alice@example.com") == EXIT_TEMPORARY
    assert dovecot.login("nobody@example.com") == EXIT_TEMPORARY
    assert dovecot.doveadm("user", "nobody@example.com").returncode == EXIT_TEMPORARY
    assert dovecot.doveadm("user", "*").returncode != 0
    dovecot.daemon.start()
    wait_until(lambda: dovecot.login("alice@example.com") == 0, "a login after the restart")
    assert dovecot.doveadm("user", "nobody@example.com").returncode == EXIT_NO_USER


def test_without_the_database(dovecot: Dovecot24, mariadb: MariaDB) -> None:
    """With the database frozen, whom mailmapd remembers logs in, and a stranger gets a temporary failure."""
    assert dovecot.login("hash@example.com") == 0
    mariadb.pause()
    try:
        assert dovecot.login("hash@example.com") == 0
        assert dovecot.login("stranger@example.com") == EXIT_TEMPORARY
    finally:
        mariadb.resume()
