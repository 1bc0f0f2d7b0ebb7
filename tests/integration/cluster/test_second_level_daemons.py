"""Real daemons that share answers: what a person sees of it, and a flush by the command."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from support.daemon import Daemon
from support.fleet import KEY, SECOND_LEVEL, TABLES, configuration, fill
from support.mariadb import MariaDB, private_directory
from support.process import free_port, wait_until
from support.valkey import Valkey

pytestmark = [pytest.mark.servers, pytest.mark.root]

UP = "mailmapd_cluster_second_level_up"
PASSWORDS = "SELECT hash AS password FROM users WHERE name = '%Lu'"


def outcome(daemon: Daemon, kind: str, name: str) -> float:
    """Return a count of a daemon."""
    count: int = daemon.stats()["cluster"]["second_level"][kind][name]
    return count


def queries(daemon: Daemon) -> float:
    """Return how many queries a daemon has sent."""
    sent: dict[str, int] = daemon.stats()["databases"]["mail"]["queries"]
    return sum(sent.values())


@pytest.fixture
def daemons(database: MariaDB, valkey: Valkey) -> Iterator[list[Daemon]]:
    """Three daemons, of which the first follows the database, and the last one has not begun."""
    fill(database)
    database.run_sql("INSERT INTO t.users VALUES ('info@example.com', '{PLAIN}old')")
    with ExitStack() as stack:
        made = []
        for name in ("mx1", "mx2", "mx3"):
            folder = stack.enter_context(private_directory())
            (folder / "key").write_text(KEY)
            (folder / "secret").write_text("follow it")
            follow = 'follow = "no"'
            if name == "mx1":
                follow = 'follow = "yes"\nuser = "replica"\npassword_file = "secret"'
            cluster = (
                f'[database.mail.changes]\n{follow}\n[cluster]\nurl = "{valkey.url}"\n'
                f'host = "{name}"\n{SECOND_LEVEL}second_level_passwords = true\n'
                f'[table.passwords]\ndatabase = "mail"\ndovecot_query = "{PASSWORDS}"\n'
                '[dict.auth]\npassdb = "passwords"\n'
            )
            text = configuration(folder, f'"unix:{database.socket}"', TABLES, cluster)
            listen = f'[listen]\nhttp = "127.0.0.1:{free_port()}"\ndict = ["unix:{folder}/d"]\n'
            made.append(Daemon(folder, text.replace("[listen]\n", listen)))
        for daemon in made[:2]:
            stack.enter_context(daemon)
        stack.push(made[2])
        yield made


def login(daemon: Daemon) -> str:
    """Return what Dovecot would be told of the user."""
    with daemon.connect("dict") as connection:
        line = b"Lshared/passdb/info@example.com\tinfo@example.com\n"
        connection.sendall(b"H3\t2\t0\t\tauth\n" + line)
        with connection.makefile("rb") as stream:
            return stream.readline().decode()


def ask(daemon: Daemon) -> bytes | None:
    """Return what a daemon answers."""
    with daemon.socketmap() as client:
        return client.lookup("alias", b"a@example.com")


def wait_for_level(daemon: Daemon) -> None:
    """Wait until a daemon keeps its tables for long and asks for shared answers."""

    def ready() -> bool:
        cluster = daemon.stats()["cluster"]
        return bool(cluster["second_level"]["up"]) and len(cluster["watched"]["mail"]) > len(TABLES)

    wait_until(ready, "nothing is shared", 30)


def test_daemons(daemons: list[Daemon], valkey: Valkey) -> None:
    """A daemon that starts with nothing answers without a query; a flush is one of what is shared, too."""
    _, mx2, mx3 = daemons
    wait_for_level(mx2)
    assert ask(mx2) == b"one"
    assert "old" in login(mx2)
    wait_until(lambda: outcome(mx2, "shared", "filled") == 2, "nothing was shared")
    mx3.start()
    wait_for_level(mx3)
    sent = queries(mx3)
    assert (ask(mx3), queries(mx3)) == (b"one", sent), mx3.metrics()
    assert ("old" in login(mx3), queries(mx3)) == (True, sent)
    assert outcome(mx3, "answers", "hit") == 2
    done = mx3.command("stats")
    assert re.search(r"^answers +yes +2 ", done.stdout, re.MULTILINE), done.stdout

    done = mx3.command("flush", "--user", "a@example.com", "--wait", "10s")
    assert (done.returncode, "confirmed" in done.stdout) == (0, True), done.stderr
    assert ask(mx3) == b"one"
    assert (outcome(mx3, "answers", "hit"), queries(mx3)) == (2, sent + 1)

    # Where the server is away, a lookup is answered, and a person is told
    valkey.kill()
    assert ask(mx2) == b"one"
    wait_until(lambda: mx2.metrics()[UP] == 0, "it is still asked")
    assert "cluster: unix:" in mx2.command("stats").stdout
