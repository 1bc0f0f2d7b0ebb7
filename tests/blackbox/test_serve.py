"""The daemon as a process, on a SQLite file: start, answers, violations, reload, stop."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.clients import connect
from support.daemon import SOURCE, Daemon
from support.process import free_port, wait_until

CONFIG = """
[listen]
socketmap = ["unix:{folder}/a", "unix:{folder}/b", "127.0.0.1:{tcp}"]
http = "127.0.0.1:{http}"
[listen.tcp_table]
aliases = "127.0.0.1:{table}"
[database.mail]
driver = "sqlite"
path = "{folder}/mail.sqlite"
[table.alias]
database = "mail"
query = "SELECT destination FROM alias WHERE address = '%s'"
[map.aliases]
tables = ["alias"]
search = "address"
recipient_delimiter = "+"
propagate_unmatched_extensions = true
"""


@pytest.fixture
def folder(short_path: Path) -> Path:
    connection = sqlite3.connect(short_path / "mail.sqlite")
    connection.executescript("""
        CREATE TABLE alias (address PRIMARY KEY, destination);
        INSERT INTO alias VALUES ('info@example.com', 'user@example.com');
        INSERT INTO alias VALUES ('long@example.com', printf('%.*c', 99998, 'x'));
        INSERT INTO alias VALUES ('pct@example.com', 'a b%');
    """)
    connection.close()
    return short_path


def text(folder: Path) -> str:
    return CONFIG.format(folder=folder, tcp=free_port(), http=free_port(), table=free_port())


@pytest.fixture
def daemon(folder: Path) -> Iterator[Daemon]:
    with Daemon(folder, text(folder)) as daemon:
        yield daemon


def test_every_listener(daemon: Daemon) -> None:
    """Several listeners of a kind, UNIX and TCP, and tcp_table answer the same."""
    for number in range(3):
        with daemon.socketmap(number) as client:
            assert client.ask("aliases", b"info+x@example.com") == ("OK", b"user+x@example.com")
            assert client.ask("aliases", b"none@example.com") == ("NOTFOUND", b"")
            assert client.ask("nothere", b"info@example.com").status == "PERM"
    with daemon.tcp_table("aliases") as table:
        assert table.ask(b"info+x@example.com") == ("200", b"user+x@example.com")
        assert table.ask(b"pct@example.com") == ("200", b"a b%")
        assert table.ask(b"none@example.com").status == "500"


def test_too_long_for_the_protocol(daemon: Daemon) -> None:
    """A value that does not fit in a reply is a temporary failure, never a cut value."""
    with daemon.socketmap() as client:
        assert client.ask("aliases", b"long@example.com").status == "TEMP"
    with daemon.tcp_table("aliases") as table:
        assert table.ask(b"long@example.com").status == "400"


def test_postmap(daemon: Daemon) -> None:
    """The real postmap gets its answers over both protocols."""
    address = daemon.listeners["tcp_table"]["aliases"]
    for table in (
        f"socketmap:unix:{daemon.directory}/a:aliases",
        f"socketmap:inet:{daemon.listeners['socketmap'][2]}:aliases",
        f"tcp:{address}",
    ):
        done = subprocess.run(
            ["postmap", "-q", "info@example.com", table],
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.stdout, done.returncode) == ("user@example.com\n", 0), done.stderr
        done = subprocess.run(
            ["postmap", "-q", "none@example.com", table],
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.stdout, done.returncode, done.stderr) == ("", 1, "")


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"99999999999:",
        b"5:abcdeX",
        b"4:noarg,",
        b"-1:,",
        b"\0\0\0\0",
        b"12:a" + b"x" * 30,
    ],
)
def test_violation(daemon: Daemon, garbage: bytes) -> None:
    """Bytes outside the protocol close their connection.

    Everybody else is served on, and the violation is counted and logged once.
    """
    with daemon.socketmap() as good, daemon.socketmap() as bad:
        bad.send(garbage)
        assert bad.at_end()
        assert good.ask("aliases", b"info@example.com").status == "OK"
    assert (
        sum(
            value
            for name, value in daemon.metrics().items()
            if name.startswith("mailmapd_protocol_errors_total")
        )
        == 1
    )
    assert daemon.text().count("protocol error") == 1


def test_counted(daemon: Daemon) -> None:
    """Lookups, cache outcomes and avoided queries are in the metrics, and promtool finds no fault with them."""
    with daemon.socketmap() as client:
        for _ in range(3):
            client.ask("aliases", b"info@example.com")
        client.ask("no such map", b"x")
    metrics = daemon.metrics()
    assert metrics['mailmapd_lookups_total{listener="socketmap",map="aliases",result="found"}'] == 3
    assert metrics['mailmapd_cache_requests_total{outcome="hit",table="alias"}'] == 2
    assert metrics['mailmapd_queries_avoided_total{map="aliases"}'] == 2
    assert metrics['mailmapd_lookup_duration_seconds_count{map="aliases",source="database"}'] == 1
    assert not any("no such map" in name for name in metrics)
    checked = subprocess.run(
        ["promtool", "check", "metrics"],
        input=daemon.page("/metrics"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")
    assert daemon.page("/healthz") == "ok\n"
    assert daemon.page("/readyz").startswith("ready\n")


def test_sigterm_answers_what_is_in_flight(daemon: Daemon) -> None:
    """On SIGTERM clients that are being answered get their answers, the others an end of file, and
    the process ends with status 0.
    """
    replies: list[str] = []
    failures: list[str] = []

    def ask() -> None:
        with contextlib.suppress(OSError), daemon.socketmap() as client:
            while True:
                client.send(client.request("aliases", b"info@example.com"))
                first = client.stream.read(1)
                if not first:
                    return
                (
                    replies
                    if first + client.stream.read(22) == b"19:OK user@example.com,"
                    else failures
                ).append("reply")

    clients = [threading.Thread(target=ask) for _ in range(20)]
    for client in clients:
        client.start()
    wait_until(lambda: len(replies) > 1000 or bool(failures), "a thousand replies")
    assert daemon.stop() == 0
    for client in clients:
        client.join()
    assert failures == []
    assert not (daemon.directory / "a").exists()


def test_reload(daemon: Daemon) -> None:
    """SIGHUP serves a new map and a new listener, keeps what was cached of unchanged tables, and
    open connections stay.
    """
    with daemon.socketmap() as client:
        assert client.ask("aliases", b"info@example.com").status == "OK"
        changed = (
            daemon.config.read_text()
            .replace('http = "', 'dict = []\nhttp = "')
            .replace(f"{daemon.directory}/b", f"{daemon.directory}/c")
        )
        daemon.write_config(changed + '[map.more]\ntables = ["alias"]\n')
        daemon.process.send_signal(signal.SIGHUP)
        daemon.process.wait_ready(daemon.accepts, "mailmapd")
        assert client.ask("more", b"info@example.com").status == "OK"
        assert not (daemon.directory / "b").exists()
        assert daemon.metrics()['mailmapd_cache_requests_total{outcome="miss",table="alias"}'] == 1


def test_reload_rearranges_sockets(daemon: Daemon) -> None:
    """A listener may move in the file, get another mode, and change places with another one, and
    nobody is ever turned away.
    """
    folder, config = daemon.directory, daemon.config.read_text()
    a, b = f'"unix:{folder}/a"', f'"unix:{folder}/b"'
    tcp, table = daemon.listeners["socketmap"][2], daemon.listeners["tcp_table"]["aliases"]
    refused: list[str] = []
    done = threading.Event()

    def connect_again_and_again() -> None:
        while not done.is_set():
            try:
                connect(f"unix:{folder}/b").close()
            except OSError as error:
                refused.append(str(error))
            done.wait(
                0.001
            )  # the backlog holds those who come while the daemon is busy, if they are not thousands

    client = threading.Thread(target=connect_again_and_again)
    client.start()
    for number, (old, new) in enumerate(
        (
            (f"{a}, {b}", b),
            (f"{a}, {b}", f'{{address = {b}, mode = "0606"}}'),
            (f"{a}, {b}", f"{b}"),
            (f"{a}, {b}", f"{b}, {a}"),
        ),
        1,
    ):
        daemon.write_config(config.replace(old, new))
        daemon.process.send_signal(signal.SIGHUP)
        wait_until(lambda number=number: daemon.text().count("reload") == number, "the reload")  # type: ignore[misc]
        assert (folder / "b").stat().st_mode & 0o777 == (0o606 if number == 2 else 0o660)
    swapped = config.replace(tcp, "swap").replace(table, tcp).replace("swap", table)
    daemon.write_config(swapped)
    daemon.process.send_signal(signal.SIGHUP)
    wait_until(lambda: daemon.text().count("reload") == 5, "the reload")
    done.set()
    client.join()
    assert refused == []
    assert "refused" not in daemon.text()
    with daemon.socketmap(2) as socketmap, daemon.tcp_table("aliases") as tcp_table:
        assert socketmap.ask("aliases", b"info@example.com").status == "OK"
        assert tcp_table.ask(b"info@example.com").status == "200"


def test_stop_with_a_client_that_does_not_read(folder: Path) -> None:
    """A client that reads no listing over HTTP does not keep the daemon from ending, with its cache
    saved, within seconds.
    """
    (folder / "state").mkdir()
    endless = (
        "WITH RECURSIVE one(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM one LIMIT 3000000) "
        "SELECT 'user' || n AS user FROM one"
    )
    config = text(folder).replace("http =", f'lookup_http = "unix:{folder}/lookup"\nhttp =') + (
        f'[state]\ndirectory = "{folder}/state"\n[table.users]\ndatabase = "mail"\nquery = '
        f'"{endless}"\n[dict.auth]\niterate = "users"\n'
    )
    with Daemon(folder, config) as daemon, connect(f"unix:{folder}/lookup") as client:
        client.sendall(b"GET /users?dict=auth HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert client.recv(9) == b"HTTP/1.1 "
        assert daemon.stop() == 0
        assert (folder / "state" / "cache").exists()


def test_stop_after_reload(daemon: Daemon) -> None:
    """A daemon that is stopped soon after a reload that changed a database ends at once.

    What is left of the old one does not hold it.
    """
    with daemon.socketmap() as client:
        assert client.ask("aliases", b"info@example.com").status == "OK"
    daemon.write_config(
        daemon.config.read_text().replace(
            'driver = "sqlite"', 'driver = "sqlite"\nquery_timeout = "4s"'
        )
    )
    daemon.process.send_signal(signal.SIGHUP)
    wait_until(lambda: "configuration reloaded" in daemon.text(), "the reload")
    assert daemon.stop() == 0


def test_reload_refused(daemon: Daemon) -> None:
    """SIGHUP with a wrong configuration names the fault and changes nothing."""
    good = daemon.config.read_text()
    with daemon.socketmap() as client:
        daemon.config.write_text(good.replace("[map.aliases]", "[map.aliases]\nsaerch = 1"))
        daemon.process.send_signal(signal.SIGHUP)
        wait_until(lambda: "reload refused" in daemon.text(), "the refusal")
        assert client.ask("aliases", b"info@example.com").status == "OK"
    assert 'mailmapd.toml: map.aliases.saerch: unknown key; did you mean "search"?' in daemon.text()


def serve(folder: Path, config: str) -> subprocess.CompletedProcess[str]:
    (folder / "wrong.toml").write_text(config)
    command = [sys.executable, "-m", "mailmapd", "serve", "--config", str(folder / "wrong.toml")]
    environment = os.environ | {"PYTHONPATH": str(SOURCE)}
    return subprocess.run(
        command, capture_output=True, text=True, env=environment, timeout=60, check=False
    )


def test_all_faults_and_status_78(folder: Path) -> None:
    """A configuration with faults of every kind is refused with one line for each, and status 78."""
    config = text(folder).replace("'%s'", "'%z'").replace(
        'search = "address"', 'search = "adress"'
    ) + (
        '[database.other]\ndriver = "mysql"\npassword_file = '
        f'"{folder}/nothere"\n[table.cf]\npostfix_cf = "{folder}/nothere.cf"\n'
    )
    done = serve(folder, config)
    assert done.returncode == 78
    lines = done.stderr.splitlines()
    assert len(lines) == 4, done.stderr
    for line, words in zip(
        lines,
        (
            (
                "database.other.password_file",
                "nothere cannot be read: No such file",
                "check the path",
            ),
            ("table.alias", "%z", "query"),
            ("nothere.cf", "No such file"),
            ("map.aliases.search", "there is no search 'adress'", "address"),
        ),
        strict=True,
    ):
        assert all(word in line for word in words), line


def test_port_in_use(daemon: Daemon, folder: Path) -> None:
    """Sockets that other processes serve are named, all at once, with status 78, and the other daemon keeps its own."""
    done = serve(folder, daemon.config.read_text())
    assert done.returncode == 78
    assert "listen.socketmap[0]" in done.stderr
    assert (
        "is served by a running process; stop the other process or choose another address"
        in done.stderr
    )
    assert (
        f"listen.http: cannot listen on {daemon.listeners['http']}: Address already in use"
        in done.stderr
    )
    with daemon.socketmap() as client:
        assert client.ask("aliases", b"info@example.com").status == "OK"


def test_database_away(folder: Path) -> None:
    """Without its database the daemon starts, says "try again" and never "not found", and /readyz says why."""
    (folder / "mail.sqlite").rename(folder / "elsewhere")
    with Daemon(folder, text(folder)) as daemon, daemon.socketmap() as client:
        assert client.ask("aliases", b"info@example.com").status == "TEMP"
        done = daemon.command("query", "aliases", "info@example.com")
        assert done.returncode == 75
        with daemon.tcp_table("aliases") as table:
            assert table.ask(b"info@example.com").status == "400"
        connection = socket.create_connection(
            ("127.0.0.1", int(daemon.listeners["http"].rpartition(":")[2]))
        )
        with connection:
            connection.sendall(b"GET /readyz HTTP/1.0\r\n\r\n")
            answer = b"".join(iter(lambda: connection.recv(65536), b""))
        assert b"503" in answer.split(b"\r\n")[0]
        assert b"database mail: not reached yet" in answer
        (folder / "elsewhere").rename(folder / "mail.sqlite")
        wait_until(
            lambda: client.ask("aliases", b"info@example.com").status == "OK",
            "the database's return",
        )


def test_query(daemon: Daemon) -> None:
    """`query` prints the value with status 0, nothing with status 1 when not found, and says which maps exist."""
    found = daemon.command("query", "aliases", "info+x@example.com")
    assert (found.returncode, found.stdout) == (0, "user+x@example.com\n")
    missing = daemon.command("query", "aliases", "none@example.com")
    assert (missing.returncode, missing.stdout, missing.stderr) == (1, "", "")
    wrong = daemon.command("query", "alias", "none@example.com")
    assert wrong.returncode == 2
    assert "its maps are: aliases" in wrong.stderr
