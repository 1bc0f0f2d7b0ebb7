"""NULL, odd fields, changed names and other column orders: mailmapd gives what Dovecot's own SQL driver gives."""

from __future__ import annotations

import os
import socket
from base64 import b64encode
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import product

import pytest

from mailmapd.config.loader import load_config
from mailmapd.snippets.dovecot import dovecot_23
from support.daemon import Daemon
from support.dovecot import Dovecot, LookupFailed, write_snippet
from support.mariadb import MariaDB, private_directory

pytestmark = [pytest.mark.servers, pytest.mark.root]

RELAXED = "auth_username_chars =\nauth_username_format =\nauth_cache_size = 0\n"
DATABASE = "odd_rows"
SQL = """
CREATE TABLE person (name varchar(200) COLLATE utf8mb4_bin PRIMARY KEY, password varchar(200), second varchar(200), field varchar(200),
                     other varchar(200));
INSERT INTO person VALUES
  ('null@x', NULL, NULL, NULL, NULL),
  ('empty@x', '', '', '', ''),
  ('plain@x', 'pw', NULL, '/srv/plain', 'y'),
  ('brace@x', '{pw', NULL, '/srv/brace', 'y'),
  ('braces@x', '{a}pw', NULL, '/srv/braces', 'y'),
  ('scheme@x', '{PLAIN}pw', '{PLAIN}other', 'x:y', 'tab\\tand\\nline'),
  ('second@x', NULL, 'pw', 'plain@x', 'x'),
  ('number@x', 'pw', NULL, '5000', '0'),
  ('net@x', 'pw', NULL, '192.0.2.0/24', 'local'),
  ('o''h"a\\\\ra@x', 'pw', NULL, 'quo"te\\\\', 'y'),
  ('per%cent%u@x', 'pw', NULL, '%u/%d', '%h'),
  ('a/b@x', 'pw', NULL, 'a@b@c', 'plain'),
  ('@x', 'pw', NULL, NULL, NULL),
  ('noat', 'pw', NULL, 'y', 'y');
"""
USERS = (
    *(
        "null@x",
        "empty@x",
        "plain@x",
        "brace@x",
        "braces@x",
        "scheme@x",
        "second@x",
        "number@x",
        "net@x",
        "noat",
        "@x",
        "PLAIN@X",
        "nobody@x",
    ),
    *("o'h\"a\\ra@x", "per%cent%u@x", "a/b@x", "caf\udce9@x", "zoë@x", "plain@x ", "a\tb@x"),
)
PASSWORDS = ("pw", "", "other", "{pw", "{a}pw")
QUERIES = {
    "passwords": """\
password_query = SELECT password, second AS password_noscheme, field AS a, other AS a, '' AS '', 1.50 AS decimal \\
  FROM person WHERE name = '%u'
user_query = SELECT field AS home, 5000 AS uid, 5000 AS gid FROM person WHERE name = '%u'
iterate_query = SELECT name AS username, other AS user FROM person
""",
    "no_passwords": """\
password_query = SELECT second AS password, other AS nopassword, field AS allow_nets FROM person WHERE name = '%u'
user_query = SELECT field AS tempfail, other AS reason FROM person WHERE name = '%u'
""",
    "names": """\
password_query = SELECT password, field AS username, other AS domain, '%n|%d|%Un|%{domain_first}|%%|%s|%l|%r|%{lport}|%k' AS seen \\
  FROM person WHERE name = '%u'
user_query = SELECT field AS user, other AS domain, '%n|%d|%Ud|%s|%l|%r|%h' AS seen FROM person WHERE name = '%n@%d' OR name = '%u'
iterate_query = SELECT name AS username, other AS domain FROM person
""",
    "fields": """\
password_query = SELECT password AS password_noscheme, field AS 'x:protected', other AS 'x:protected', field AS y, other AS 'y:remove', \\
  other AS USER, field AS passdb_import, NULL AS userdb_home, other AS userdb_x FROM person WHERE name = '%u'
user_query = SELECT field AS Home, other AS UID, field AS 'x:protected', other AS 'x:protected' FROM person WHERE name = '%u'
iterate_query = SELECT name AS user FROM person
""",
    "proxy": """\
password_query = SELECT NULL AS password, 'y' AS nopassword, 'y' AS proxy, '192.0.2.7' AS host, field AS destuser, other AS pass, \\
  'y' AS nodelay   FROM person WHERE name = '%u'
user_query = SELECT nosuch FROM person
iterate_query = SELECT name AS user, other AS username FROM person
""",
}


@dataclass(frozen=True)
class Pair:
    """One set of queries served by Dovecot's own driver and by mailmapd."""

    own: Dovecot
    ours: Dovecot


@pytest.fixture(scope="module")
def people(mariadb: MariaDB) -> MariaDB:
    """The database with its rows."""
    mariadb.run_sql(
        f"DROP DATABASE IF EXISTS {DATABASE}; CREATE DATABASE {DATABASE} CHARACTER SET utf8mb4"
    )
    mariadb.run_sql(SQL, database=DATABASE)
    mariadb.grant(DATABASE, "geheim", DATABASE)
    return mariadb


@pytest.fixture(scope="module", params=QUERIES)
def pair(request: pytest.FixtureRequest, people: MariaDB) -> Iterator[Pair]:
    """Both Dovecots for one set of queries."""
    with ExitStack() as stack:
        folder, other = (stack.enter_context(private_directory()) for _ in range(2))
        sql = folder / "dovecot-sql.conf.ext"
        sql.write_text(
            f"driver = mysql\nconnect = host={people.socket} dbname={DATABASE} user={DATABASE} password=geheim\n"
            f"default_pass_scheme = PLAIN\n{QUERIES[request.param]}"
        )
        listen = f'[listen]\ndict = [{{address = "unix:{other}/dict", mode = "0666", peers = ["dovecot"]}}]\n'
        daemon = stack.enter_context(Daemon(other, f'{listen}[dict.auth]\ndovecot_sql = "{sql}"\n'))
        section = f"{{\n  driver = sql\n  args = {sql}\n}}\n"
        prefetch = (
            "userdb {\n  driver = prefetch\n}\n" if "userdb_" in QUERIES[request.param] else ""
        )
        own = stack.enter_context(
            Dovecot(folder, f"{RELAXED}passdb {section}{prefetch}userdb {section}")
        )
        snippet = dovecot_23(load_config(daemon.config), str(other))
        write_snippet(snippet)
        ours = stack.enter_context(
            Dovecot(other, f"{RELAXED}!include {other}/conf.d/10-auth.conf\n")
        )
        yield Pair(own, ours)


def _lines(
    dovecot: Dovecot, name: str, requests: list[bytes], ends: tuple[bytes, ...]
) -> list[bytes]:
    """Return the answers to requests with the ids 1, 2 … of one of Dovecot's own sockets."""
    answers: dict[int, bytes] = {}
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(60)
        connection.connect(str(dovecot.socket(name)))
        stream = connection.makefile("rb")
        connection.sendall(
            b"".join(requests)
        )  # at once, because a refused login waits for half a second
        while len(answers) < len(requests):
            line = stream.readline()
            assert line
            if line.startswith(ends):
                kind, number, *fields = line.rstrip(b"\n").split(b"\t")
                answers[int(number)] = b"\t".join([kind, *sorted(fields)])
    return [answers[number] for number in sorted(answers)]


def _logins(dovecot: Dovecot) -> dict[tuple[str, str], bytes]:
    questions = list(product(USERS, PASSWORDS))
    requests = [
        b"AUTH\t%d\tPLAIN\tservice=imap\tsecured\tlip=192.0.2.1\trip=192.0.2.9\tlport=143\tresp=%b\n"
        % (
            number,
            b64encode(b"\0%b\0%b" % (user.encode(errors="surrogateescape"), password.encode())),
        )
        for number, (user, password) in enumerate(questions, 1)
    ]
    requests[0] = b"VERSION\t1\t2\nCPID\t%d\n" % os.getpid() + requests[0]
    answers = _lines(dovecot, "auth-client", requests, (b"OK\t", b"FAIL\t"))
    return dict(zip(questions, answers, strict=True))


def _users(dovecot: Dovecot, command: bytes) -> dict[str, bytes]:
    users = [user for user in USERS if "\t" not in user]
    requests = [
        b"%b\t%d\t%b\tservice=lmtp\tlip=192.0.2.1\trip=192.0.2.9\n"
        % (command, number, user.encode(errors="surrogateescape"))
        for number, user in enumerate(users, 1)
    ]
    requests[0] = b"VERSION\t1\t1\n" + requests[0]
    answers = _lines(
        dovecot, "auth-userdb", requests, (b"USER\t", b"PASS\t", b"FAIL\t", b"NOTFOUND\t")
    )
    return dict(zip(users, answers, strict=True))


def test_logins(pair: Pair) -> None:
    """Every login ends alike, with the same fields."""
    own, ours = _logins(pair.own), _logins(pair.ours)
    assert {q: (own[q], ours[q]) for q in own if own[q] != ours[q]} == {}


def test_users(pair: Pair) -> None:
    """Every user lookup ends alike, with the same fields."""
    own, ours = _users(pair.own, b"USER"), _users(pair.ours, b"USER")
    assert {q: (own[q], ours[q]) for q in own if own[q] != ours[q]} == {}


def _listing(dovecot: Dovecot) -> object:
    try:
        return sorted(dovecot.users())
    except LookupFailed:
        return "failed"


def test_list(pair: Pair) -> None:
    """The list of all users is the same, or fails alike."""
    assert _listing(pair.ours) == _listing(pair.own)


def test_passdb_lookups(pair: Pair) -> None:
    """Every lookup of a password without a login ends alike, with the same fields."""
    own, ours = _users(pair.own, b"PASS"), _users(pair.ours, b"PASS")
    assert {q: (own[q], ours[q]) for q in own if own[q] != ours[q]} == {}
