"""The control socket of the daemon as a process: flush, stats, top, and who may."""

from __future__ import annotations

import json
import os
import select
import shutil
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.clients import Client, connect
from support.daemon import SOURCE, Daemon
from support.process import free_port, wait_until

CONFIG = """
[listen]
socketmap = ["unix:{folder}/socketmap"]
http = "127.0.0.1:{http}"
control = {control}
[database.mail]
driver = "sqlite"
path = "{folder}/mail.sqlite"
changes = {{ follow = "no" }}
[table.alias]
database = "mail"
query = "SELECT destination FROM alias WHERE address = '%s'"
[map.aliases]
tables = ["alias"]
search = "address"
recipient_delimiter = "+"
"""
NOBODY = 65534


@pytest.fixture
def folder(short_path: Path) -> Path:
    connection = sqlite3.connect(short_path / "mail.sqlite")
    connection.executescript(
        "CREATE TABLE alias (address PRIMARY KEY, destination); INSERT INTO alias VALUES ('info@example.com', 'old');"
    )
    connection.close()
    return short_path


def text(folder: Path, control: str = "") -> str:
    return CONFIG.format(
        folder=folder, http=free_port(), control=control or f'"unix:{folder}/control"'
    )


@pytest.fixture
def daemon(folder: Path) -> Iterator[Daemon]:
    with Daemon(folder, text(folder)) as daemon:
        yield daemon


def change(folder: Path, destination: str) -> None:
    connection = sqlite3.connect(folder / "mail.sqlite")
    connection.execute("UPDATE alias SET destination = ?", (destination,))
    connection.commit()
    connection.close()


def ask(daemon: Daemon, request: bytes) -> dict[str, object]:
    with Client(daemon.connect("control")) as client:
        client.send(request)
        reply: dict[str, object] = json.loads(client.stream.readline())
        return reply


@contextmanager
def somebody_else() -> Iterator[None]:
    """Be another user, in no group, while connecting."""
    groups = os.getgroups()
    os.setgroups([])
    os.setegid(NOBODY)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)


@pytest.mark.parametrize(
    ("options", "printed"),
    [
        (["--user", "info@example.com"], "alias: 3\n3 entries dropped\n"),
        (["--key", "info@example.com"], "alias: 1\n1 entry dropped\n"),
        (["--domain", "example.com"], "alias: 3\n3 entries dropped\n"),
        (["--map", "aliases", "--key", "info+x@example.com"], "alias: 3\n3 entries dropped\n"),
        (["--table", "alias"], "alias: 3\n3 entries dropped\n"),
        (["--all"], "alias: 3\n3 entries dropped\n"),
        (["--user", "other@example.net"], "nothing was cached\n"),
    ],
)
def test_flush(daemon: Daemon, folder: Path, options: list[str], printed: str) -> None:
    """`flush` prints what it dropped, and the next lookup asks the database, unless something else was flushed."""
    with daemon.socketmap() as client:
        client.ask("aliases", b"none+y@example.com")  # leaves @example.com behind
        assert daemon.command("flush", "--key", "none@example.com").returncode == 0
        assert daemon.command("flush", "--key", "none+y@example.com").returncode == 0
        assert client.lookup("aliases", b"info+x@example.com") == b"old"
        change(folder, "new")
        assert client.lookup("aliases", b"info+x@example.com") == b"old"
        done = daemon.command("flush", *options)
        assert (done.returncode, done.stdout, done.stderr) == (0, printed, "")
        assert client.lookup("aliases", b"info+x@example.com") == (
            b"old" if "nothing" in printed else b"new"
        )


def test_flush_under_load(daemon: Daemon, folder: Path) -> None:
    """After each flush of a user, while others keep asking for it, nobody ever gets the old answer again."""
    ended = threading.Event()
    failures: list[bytes | None] = []
    flushed = [0]

    def keep_asking() -> None:
        with daemon.socketmap() as client:
            while not ended.is_set():
                known = flushed[0]
                value = client.lookup("aliases", b"info@example.com")
                if value is None or (value != b"old" and int(value) < known):
                    failures.append(value)

    clients = [threading.Thread(target=keep_asking) for _ in range(4)]
    for client in clients:
        client.start()
    for number in range(1, 31):
        change(folder, str(number))
        reply = ask(daemon, b'{"do": "flush", "user": "info@example.com"}\n')
        assert reply["ok"]
        flushed[0] = number
    ended.set()
    for client in clients:
        client.join()
    assert failures == []


@pytest.mark.parametrize(
    ("options", "status", "words"),
    [
        (["--table", "alais"], 65, 'there is no table "alais"; the tables are: alias'),
        (["--map", "alias"], 65, 'there is no map or dict "alias"; there are: aliases'),
        ([], 64, "say what to forget"),
        (["--user", "info"], 64, "a user is an address"),
        (["--user", "a@example.com", "--all"], 64, "say one of"),
        (["--tabel", "alias"], 64, "--tabel"),
        (["--all", "--socket", "unix:/nothere/control"], 75, "is mailmapd running"),
        (["--all", "--socket", "127.0.0.1:1"], 64, "no UNIX socket"),
        (["--all", "--config", "/nothere.toml"], 78, "No such file"),
        (["--all", "--config", "/nothere.toml"], 78, "--socket unix:/run/mailmapd/control"),
        (["--all", "--config", "/nothere.toml"], 78, "mailmapd import writes one"),
        (["--all", "--config", "/etc"], 78, "Is a directory; say with which one the daemon runs"),
    ],
)
def test_flush_refused(daemon: Daemon, options: list[str], status: int, words: str) -> None:
    """A flush that cannot be is told so, with the exit status of sysexits.h, and nothing is dropped."""
    command = [sys.executable, "-m", "mailmapd", "flush", "--config", str(daemon.config), *options]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(SOURCE)},
        check=False,
    )
    assert done.returncode == status, done.stderr
    assert words in done.stderr
    assert done.stdout == ""


def test_stopped(daemon: Daemon) -> None:
    """When the daemon has stopped, commands say that nobody answers, with status 75, and its socket file is gone."""
    daemon.stop()
    done = daemon.command("stats")
    assert done.returncode == 75
    assert "no daemon answers (No such file or directory)" in done.stderr
    assert not (daemon.directory / "control").exists()


def test_stats(daemon: Daemon) -> None:
    """`stats` shows what was counted, as a table or as JSON, and no key."""
    with daemon.socketmap() as client:
        for _ in range(3):
            client.ask("aliases", b"info@example.com")
        client.ask("nothere", b"secret@example.com")
        shown = daemon.command("stats")
        counted = json.loads(daemon.command("stats", "--format", "json").stdout)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "aliases" in shown.stdout
    assert "(no such map)" in shown.stdout
    assert "example.com" not in shown.stdout
    assert counted["maps"]["aliases"]["results"] == {
        "found": 3,
        "notfound": 0,
        "tempfail": 0,
        "permfail": 0,
    }
    assert counted["maps"][""]["results"]["permfail"] == 1
    assert counted["tables"]["alias"]["entries"] == 1
    assert counted["listeners"]["socketmap"]["connections"] == 1


@pytest.mark.parametrize(
    ("request_", "word"),
    [
        (b"flush everything\n", "malformed"),
        (b'{"do": "shutdown"}\n', "bad_request"),
        (b'{"do": "flush", "table": "nothere"}\n', "unknown_name"),
        (b'{"do": "flush", "key": "' + b"k" * 70_000 + b'"}\n', "too_long"),
    ],
)
def test_bad_requests(daemon: Daemon, request_: bytes, word: str) -> None:
    """A wrong request is answered with one line that says what is wrong, and lookups go on."""
    assert ask(daemon, request_)["error"] == word
    with daemon.socketmap() as client:
        assert client.lookup("aliases", b"info@example.com") == b"old"


def test_requests_in_a_row(daemon: Daemon) -> None:
    """A connection serves any number of requests, in order, however they are cut.

    Half a request at the end is nothing.
    """
    with Client(daemon.connect("control")) as client:
        for piece in (
            b'{"do": "sta',
            b'ts"}\n{"do": "x"}\n{"do": "flush", "all": true}\n{"do": "fl',
        ):
            client.send(piece)
        replies = [json.loads(client.stream.readline()) for _ in range(3)]
        assert [reply["ok"] for reply in replies] == [True, False, True]


def test_too_many_clients(daemon: Daemon) -> None:
    """More clients than the limit are told to come again; when the others have gone, they are served."""
    others = [daemon.connect("control") for _ in range(64)]
    wait_until(lambda: ask(daemon, b'{"do": "stats"}\n').get("error") == "busy", "the limit")
    for other in others:
        other.close()
    wait_until(lambda: ask(daemon, b'{"do": "stats"}\n')["ok"] is True, "room for a client")


def test_silent_clients_take_no_descriptors(daemon: Daemon) -> None:
    """Clients that connect and say nothing are closed when there are twice as many as may be served."""
    others = [socket.socket(socket.AF_UNIX) for _ in range(200)]
    for other in others:
        other.connect(f"{daemon.directory}/control")
    wait_until(
        lambda: len(select.select(others, [], [], 0)[0]) == 200 - 128, "the end of those beyond 128"
    )
    for other in others:
        other.close()
    wait_until(lambda: ask(daemon, b'{"do": "stats"}\n')["ok"] is True, "room for a client")


@pytest.mark.root
def test_other_users(folder: Path) -> None:
    """Another user may not, even when the socket's mode lets everybody in; the log names who tried."""
    with Daemon(
        folder, text(folder, f'{{address = "unix:{folder}/control", mode = "0666"}}')
    ) as daemon:
        with somebody_else():
            stranger = Client(connect(f"unix:{folder}/control"))
        with stranger:
            stranger.send(b'{"do": "flush", "all": true}\n')
            reply = json.loads(stranger.stream.readline())
            assert reply["error"] == "no_permission"
            assert "root may, and the members of the group root" in reply["message"]
            assert stranger.at_end()
        assert "may not control mailmapd" in daemon.text()


@pytest.mark.root
def test_mode(daemon: Daemon) -> None:
    """By default the socket's mode already keeps others out; a command says so, with status 77."""
    # As root: the interpreter may be out of others' reach
    imports = "import os, mailmapd.cli, mailmapd.cli.stats, mailmapd.control.client"
    script = f"{imports}; os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY}); mailmapd.cli.main()"
    command = [
        sys.executable,
        "-c",
        script,
        "stats",
        "--socket",
        f"unix:{daemon.directory}/control",
    ]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(SOURCE)},
        check=False,
    )
    assert done.returncode == 77, done.stderr
    assert "you may not connect" in done.stderr


@pytest.mark.root
def test_group_and_peers(folder: Path) -> None:
    """Members of the socket's group may, by their supplementary groups too, and users that are named as peers."""
    control = f'{{address = "unix:{folder}/control", group = "{NOBODY}", mode = "0666"}}'
    with Daemon(folder, text(folder, control)) as daemon, somebody_else():
        assert ask(daemon, b'{"do": "stats"}\n')["ok"] is True
    (folder / "mailmapd.log").unlink()
    control = f'{{address = "unix:{folder}/control", mode = "0666", peers = ["{NOBODY}"]}}'
    with Daemon(folder, text(folder, control)) as daemon, somebody_else():
        assert ask(daemon, b'{"do": "stats"}\n')["ok"] is True


def test_unreadable_configuration(daemon: Daemon) -> None:
    """A configuration that cannot be read is named with its fault.

    The daemon, which goes on, can be asked by its socket's name.
    """
    address = f"unix:{daemon.directory}/control"
    for data, problem in (
        (b"[listen", "is not TOML: "),
        (b"# \xe9\n", "is not UTF-8"),
        (b"listen = 1\n", "listen is no section"),
    ):
        daemon.config.write_bytes(data)
        done = daemon.command("stats")
        assert done.returncode == 78
        assert f"{daemon.config}: {problem}" in done.stderr
        assert "name the socket with --socket" in done.stderr
        assert daemon.command("stats", "--socket", address).returncode == 0


def test_top_without_a_terminal(daemon: Daemon) -> None:
    """`top` without a terminal says what to use instead, with status 64."""
    done = daemon.command("top")
    assert (done.returncode, done.stdout) == (64, "")
    assert "top needs a terminal; mailmapd stats" in done.stderr


@pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed")
@pytest.mark.parametrize("key", ["q", "C-c"])
def test_top(daemon: Daemon, key: str) -> None:
    """`top` fits into 80 columns and 24 lines, shows map, table and database, and q or Ctrl-C ends it with status 0."""

    def tmux(*arguments: str) -> str:
        command = ["tmux", "-f", "/dev/null", "-S", str(daemon.directory / "tmux"), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    environment = f"LC_ALL=C.UTF-8 PYTHONPATH={SOURCE}"
    top = f"{environment} {sys.executable} -m mailmapd top --config {daemon.config}; echo status $?; exec cat"
    tmux("-u", "new-session", "-d", "-s", "top", "-x", "80", "-y", "24", top)
    try:
        with daemon.socketmap() as client:

            def shown() -> bool:
                client.lookup("aliases", b"info@example.com")
                return "100 %" in tmux("capture-pane", "-p", "-t", "top")

            wait_until(shown, "the screen of top")
            screen = tmux("capture-pane", "-p", "-t", "top")
        for words in (
            "mailmapd ",
            "lookups/s",
            "aliases",
            "alias ",
            "mail.sqlite",
            "up",
            "q quits",
        ):
            assert words in screen, screen
        tmux("send-keys", "-t", "top", key)
        wait_until(lambda: "status 0" in tmux("capture-pane", "-p", "-t", "top"), "the end of top")
    finally:
        tmux("kill-server")


def test_reload_says_what_came_of_it(daemon: Daemon) -> None:
    """`reload` ends with 0 when the new configuration is in force, and with 78 and every fault when it was refused."""
    before = daemon.config.read_text()
    assert daemon.command("reload").returncode == 0
    assert "configuration reloaded" in daemon.text()
    socket = f"unix:{daemon.directory}/control"
    daemon.config.write_text("[listen]\nsocketmop = 1\n")
    done = daemon.command("reload", "--socket", socket)
    assert done.returncode == 78
    assert "reload refused, the old configuration stays" in done.stderr
    assert "socketmop" in done.stderr
    daemon.config.write_text(before)


def test_reload_without_a_control_socket_signals(daemon: Daemon) -> None:
    """Where the control socket cannot be reached, the process that systemd names is told, and a
    wrong file still fails.
    """
    before = daemon.config.read_text()
    nowhere = f"unix:{daemon.directory}/nowhere"
    for text, status in ((before, 0), (before + "nonsense", 78)):
        daemon.config.write_text(text)
        command = [sys.executable, "-m", "mailmapd", "reload", "--config", str(daemon.config)]
        done = subprocess.run(
            [*command, "--socket", nowhere],
            env=os.environ | {"PYTHONPATH": str(SOURCE), "MAINPID": str(daemon.process.pid)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == status, done.stderr
    wait_until(lambda: "reload refused" in daemon.text(), "the refusal")
    assert "configuration reloaded" in daemon.text()
    daemon.config.write_text(before)
