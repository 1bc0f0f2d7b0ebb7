"""Clients that leave early, cut their requests short or expect odd things: served or refused, and
no traceback is written.
"""

from __future__ import annotations

import socket
import sqlite3
import time
from collections.abc import Iterator

import pytest

from support.daemon import Daemon
from support.process import free_port

USERS = 20_000
CONFIG = """
[listen]
dict = ["unix:{folder}/dict"]
lookup_http = "unix:{folder}/lookup"
http = "127.0.0.1:{http}"
control = "unix:{folder}/control"
[database.mail]
driver = "sqlite"
path = "{folder}/mail.sqlite"
[table.passdb]
database = "mail"
dovecot_query = "SELECT user, pw AS password FROM users WHERE user = '%u'"
[table.users]
database = "mail"
dovecot_query = "SELECT user FROM users"
[dict.auth]
passdb = "passdb"
iterate = "users"
"""
HOST = b"Host: localhost\r\n"
HELLO = b"H3\t2\t0\t\tauth\n"
LIST = b"I0\t%d\tshared/userdb/\t*\n"
POST = b"POST /passdb HTTP/1.1\r\n" + HOST
BODY = b"dict=auth&user=u1%40example.com"


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon with many users in SQLite."""
    folder = tmp_path_factory.mktemp("rude")
    with sqlite3.connect(folder / "mail.sqlite") as database:
        database.execute("CREATE TABLE users (user TEXT PRIMARY KEY, pw TEXT)")
        database.executemany(
            "INSERT INTO users VALUES (?, '{PLAIN}x')",
            [(f"u{number}@example.com",) for number in range(USERS)],
        )
    database.close()
    with Daemon(folder, CONFIG.format(folder=folder, http=free_port())) as daemon:
        yield daemon


def say(daemon: Daemon, kind: str, data: bytes, *, replies: int = 0) -> bytes:
    """Send bytes, read at least so many, and leave without a word."""
    connection = daemon.connect(kind)
    with connection:
        connection.sendall(data)
        heard = b""
        while len(heard) < replies and (more := connection.recv(65536)):
            heard += more
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    return heard


def calm(daemon: Daemon) -> None:
    """Let the daemon notice who has gone, and see that it has nothing to say about it."""
    time.sleep(0.3)
    for path in ("/healthz", "/metrics"):
        assert daemon.page(path)
    assert "Traceback" not in daemon.text()
    assert "ERROR" not in daemon.text()


@pytest.mark.parametrize("heard", [0, 100, 10_000])
def test_leaves_in_the_middle_of_a_list(daemon: Daemon, heard: int) -> None:
    """Who leaves while a list of users is on its way, over HTTP or the dict protocol, is no defect."""
    say(daemon, "lookup_http", b"GET /users?dict=auth HTTP/1.1\r\n" + HOST + b"\r\n", replies=heard)
    say(daemon, "dict", HELLO + LIST % 0, replies=heard)
    calm(daemon)


def test_some_users(daemon: Daemon) -> None:
    """A list with a limit ends in the middle of its query, and the database is left in order."""
    for _ in range(3):
        heard = say(
            daemon,
            "lookup_http",
            b"GET /users?dict=auth&limit=3 HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n",
            replies=100_000,
        )
        assert heard.count(b"@example.com") == 3
        assert say(daemon, "dict", HELLO + LIST % 3, replies=70).count(b"shared/userdb/") == 3
    calm(daemon)


@pytest.mark.parametrize(
    "request_",
    [
        POST + b"Content-Length: 50\r\n\r\ndict=a",
        POST + b"Transfer-Encoding: chunked\r\n\r\n5\r\nab",
        POST + b"Content-Length: 50\r\nExpect: 100-continue\r\n\r\n",
        POST + b"Content-Length: 31\r\nExpect: something else\r\n\r\n",
        POST + b"Content-Length: 31\r\nContent-Encoding: gzip\r\n\r\n",
        b"GET /passdb?dict=auth&user=u1 HTTP/1.1\r\n" + HOST + b"\r\n",
        b"GET / HTTP/1.1\r\n" + HOST + b"\r\n",
        b"GET /metrics HTTP/1.1\r\n" + HOST + b"\r\n" * 2 + b"GET / HTTP/1.1\r\n",
        b"GET /metr",
        b"no HTTP at all\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
)
@pytest.mark.parametrize("kind", ["http", "lookup_http", "control"])
def test_cut_short(daemon: Daemon, kind: str, request_: bytes) -> None:
    """A request that is cut short, or whose sender does not wait for the reply, is no defect."""
    say(daemon, kind, request_)
    say(daemon, kind, request_ * 3)
    time.sleep(0.05)
    assert "Traceback" not in daemon.text()
    assert "ERROR" not in daemon.text()


def test_expects_to_be_told(daemon: Daemon) -> None:
    """A client that waits for 100 (Continue) before its body is told so, and answered."""
    with daemon.connect("lookup_http") as connection:
        head = b"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: %d\r\n"
        connection.sendall(POST + head % len(BODY) + b"Expect: 100-continue\r\n\r\n")
        assert connection.recv(1000).startswith(b"HTTP/1.1 100 ")
        connection.sendall(BODY)
        assert b"{PLAIN}x" in connection.recv(65536)
    calm(daemon)
