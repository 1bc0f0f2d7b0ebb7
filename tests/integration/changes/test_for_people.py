"""What people see of changes that are followed: `trace`, `stats`, `top`, status page and metrics of a real daemon."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator

import pytest
from rich.console import Console

from mailmapd.cli.top_screen import screen
from mailmapd.control.client import ControlClient
from mailmapd.stats.activity import between
from support.daemon import Daemon
from support.mariadb import MariaDB
from support.process import free_port, wait_until

pytestmark = [pytest.mark.servers, pytest.mark.root]

CONFIG = """
[listen]
socketmap = ["unix:{folder}/socketmap"]
dict = ["unix:{folder}/dict"]
http = "127.0.0.1:{port}"
control = "unix:{folder}/control"
[database.mail]
driver = "mysql"
hosts = ["unix:{socket}"]
user = "people"
password = "p"
dbname = "people"
changes = {{ audit = 50.0 }}
[table.alias]
database = "mail"
query = "SELECT goto FROM alias WHERE address = '%s'"
[table.clock]
database = "mail"
query = "SELECT goto FROM alias WHERE address = '%s' AND NOW() > '2020-01-01'"
[map.aliases]
tables = ["alias"]
search = "exact"
[map.clocks]
tables = ["clock"]
search = "exact"
[table.passdb]
database = "mail"
query = "SELECT goto AS password FROM alias WHERE address = '%u'"
[dict.auth]
passdb = "passdb"
"""


@pytest.fixture(scope="module")
def daemon(mariadb: MariaDB, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon that follows a table, of which a row has changed and some answers are in memory."""
    mariadb.run_sql(
        "DROP DATABASE IF EXISTS people; CREATE DATABASE people;"
        "CREATE TABLE people.alias (address VARCHAR(99) PRIMARY KEY, goto VARCHAR(99));"
        "INSERT INTO people.alias VALUES ('a', 'one'), ('b', 'two'), ('ö', 'three')"
    )
    mariadb.grant("people", "p", "people")
    mariadb.run_sql("GRANT REPLICATION SLAVE ON *.* TO people@localhost")
    folder = tmp_path_factory.mktemp("d")
    config = CONFIG.format(folder=folder, port=free_port(), socket=mariadb.socket)
    with Daemon(folder, config) as daemon:
        wait_until(lambda: following(daemon), "the log is not followed")
        with daemon.socketmap() as client:
            client.ask("aliases", b"a")
            mariadb.run_sql("UPDATE people.alias SET goto = 'new' WHERE address = 'a'")
            wait_until(lambda: client.ask("aliases", b"a").value == b"new", "still the old row")
            misses = 'mailmapd_cache_requests_total{outcome="miss",table="alias"}'

            def stays() -> bool:  # as soon as the change is proven visible
                before = daemon.metrics()[misses]
                client.ask("aliases", b"a")
                return daemon.metrics()[misses] == before

            wait_until(stays, "an answer is not kept")
            for key in (b"a", b"nobody", "ö".encode()):
                client.ask("aliases", key)
            client.ask("clocks", b"b")

            def is_audited() -> bool:
                client.ask("aliases", b"a")
                return audited(daemon) > 0

            wait_until(is_audited, "nothing is audited")
        yield daemon


def following(daemon: Daemon) -> bool:
    return 1 in [
        value
        for name, value in daemon.metrics().items()
        if name.startswith("mailmapd_changes_following")
    ]


def audited(daemon: Daemon) -> float:
    return daemon.metrics()['mailmapd_audits_total{result="same",table="alias"}']


def traced(daemon: Daemon, name: str, key: str) -> str:
    """Return what `trace` says of the daemon's memory."""
    done = daemon.command("trace", name, key)
    [line] = [line for line in done.stdout.splitlines() if "in the daemon's memory" in line]
    return line.strip().removeprefix("in the daemon's memory: ")


def test_trace(daemon: Daemon) -> None:
    """`trace` says since when an answer is known, and whether it is followed, or why not."""
    since = r"known since \d{4}-\d\d-\d\d \d\d:\d\d:\d\d \((\d+ m )?\d+ s\)"
    followed = r"followed: kept until it changes, for 2[123] h (\d+ m )?at most"
    assert re.fullmatch(rf"a row {since}, {followed}", traced(daemon, "aliases", "a"))
    assert re.fullmatch(rf"no row {since}, {followed}", traced(daemon, "aliases", "nobody"))
    not_followed = rf"a row {since}, fresh for \d.* [sm], not followed because "
    assert re.fullmatch(
        not_followed + r"the key is not printable ASCII in lower case",
        traced(daemon, "aliases", "ö"),
    )
    assert re.fullmatch(
        not_followed + r"its answer depends on the function NOW\(\)", traced(daemon, "clocks", "b")
    )
    assert traced(daemon, "auth", "a") == "nothing"
    with daemon.connect("dict") as client:
        client.sendall(b"H3\t2\t0\t\tauth\nLshared/passdb/a\ta\n")
        assert client.recv(100).startswith(b"O")
    assert re.fullmatch(rf"a row {since}, {followed}", traced(daemon, "auth", "a"))
    [step] = json.loads(daemon.command("trace", "aliases", "a", "--format", "json").stdout)["steps"]
    assert step["memory"]["followed"]
    assert 0 <= step["memory"]["known_for"] < 600


WORDS = (
    r"Forgotten: [1-9]\d* keys, 0 keys that were looked for, \d+ times all of a table, ",
    r"all of a table, \d+ times nothing was proven of a table\.",
    r"0 of [1-9][\d ]* audited answers were outdated\.",
)


def test_stats(daemon: Daemon) -> None:
    """`stats` shows the lag, the last change, what was dropped by which grade, the audit, and what is not followed."""
    text = daemon.command("stats").stdout
    assert re.search(r"CHANGES +HOST +FOLLOWED +TABLES +NOT +ROWS +SILENT +CHANGED", text)
    assert re.search(r"mail +unix:\S+ +yes +3 +1 +\d+ +\d+ s +(\d+ m )?\d+ s ago", text)
    plain = " ".join(text.split())
    for words in WORDS:
        assert re.search(words, plain)
    assert "Table clock is not followed: its answer depends on the function NOW()." in plain


def test_log(daemon: Daemon) -> None:
    """The log says once what is not followed, and why."""
    said = "table clock is not followed: its answer depends on the function NOW()"
    assert daemon.text().count(said) == 1


def test_top(daemon: Daemon) -> None:
    """So does the screen of `top`."""
    with ControlClient(f"{daemon.directory}/control") as client:
        snapshot = client.stats()
    console = Console(width=200, height=40, record=True)
    console.print(screen(snapshot, between(None, snapshot), {}, 40))  # type: ignore[arg-type]
    text = console.export_text()
    assert re.search(
        r"mail unix:\S+: changes followed, heard of \d+ s ago, last change (\d+ m )?\d+ s ago", text
    )
    for words in WORDS:
        assert re.search(words, text)
    assert "Tables that are not followed (`mailmapd stats` says why): clock" in text


def test_status_page(daemon: Daemon) -> None:
    """So does the status page."""
    page = html.unescape(re.sub(r"<[^>]+>", "|", daemon.page("/")))
    assert re.search(r"Changes\|.*Followed\|.*Rows\|.*Silent for\|.*Last change", page)
    assert re.search(r"\|yes\|+\d+\|+\d+ s\|+(\d+ m )?\d+ s ago\|", page)
    for words in WORDS:
        assert re.search(words, page)
    assert "Table clock is not followed: its answer depends on the function NOW()." in page


def test_metrics(daemon: Daemon) -> None:
    """So do the metrics that the dashboard draws."""
    metrics = daemon.metrics()
    host = next(name for name in metrics if name.startswith("mailmapd_changes_following"))
    labels = host.partition("{")[2]
    assert metrics[host] == 1
    watched = {
        table: metrics[f'mailmapd_table_watched{{table="{table}"}}'] for table in ("alias", "clock")
    }
    assert watched == {"alias": 1, "clock": 0}
    assert 0 <= metrics[f"mailmapd_changes_lag_seconds{{{labels}"] < 3
    assert metrics['mailmapd_invalidations_total{grade="key",table="alias"}'] >= 1
    assert rows_heard_of(daemon) >= 1


def rows_heard_of(daemon: Daemon) -> float:
    return sum(
        value
        for name, value in daemon.metrics().items()
        if name.startswith("mailmapd_changes_total") and 'kind="row"' in name
    )


def test_found_outdated(mariadb: MariaDB, daemon: Daemon) -> None:
    """A table of which an answer was outdated is not followed, and says why, until somebody reloads."""
    with daemon.socketmap() as client:
        client.ask("aliases", b"b")
        mariadb.run_sql(
            "SET sql_log_bin = 0; UPDATE people.alias SET goto = 'unlogged' WHERE address = 'b'"
        )
        reason = "an audited answer was outdated: rows change without the log saying so"

        def is_found() -> bool:
            client.ask("aliases", b"b")
            return f"Table alias is not followed: {reason}" in daemon.command("stats").stdout

        wait_until(is_found, "the outdated answer was not found")
    assert f"table alias is not followed any more until the next reload: {reason}" in daemon.text()
    assert daemon.metrics()['mailmapd_audits_total{result="outdated",table="alias"}'] == 1
    assert re.search(
        r"\n1 of [\d ]+ audited answers were outdated\.", daemon.command("stats").stdout
    )
    assert f"not followed because {reason}" in traced(daemon, "aliases", "b")
    assert daemon.metrics()['mailmapd_table_watched{table="alias"}'] == 0
    rows = rows_heard_of(daemon)
    assert rows >= 1
    assert daemon.command("reload").returncode == 0
    wait_until(
        lambda: bool(re.search(r" yes +3 +1 ", daemon.command("stats").stdout)),
        "it is not followed again",
    )
