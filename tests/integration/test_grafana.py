"""The Grafana dashboard.

Each of its expressions, evaluated by a real Prometheus that scrapes a real daemon under load.
"""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mailmapd.demo import configuration, mail_database
from support.daemon import Daemon
from support.process import free_port, wait_until
from support.prometheus import Prometheus
from support.valkey import Valkey

DASHBOARD = Path(__file__).parents[2] / "configs" / "grafana" / "mailmapd.json"
VARIABLES = {
    "$__rate_interval": "5s",
    "$__range": "30s",
    "$instance": ".*",
    "$map": ".*",
    "$job": ".*",
}
BROKEN_TABLE_AND_SMALL_BUDGET = """
[table.broken]
database = "mail"
query = "SELECT b FROM gone WHERE a = '%s'"
[map.broken]
tables = ["broken"]
search = "exact"
[cache]
max_negative_entries = 50
"""

pytestmark = [
    pytest.mark.servers,
    pytest.mark.skipif(shutil.which("prometheus") is None, reason="prometheus is not installed"),
]


def dashboard() -> dict[str, Any]:
    content: dict[str, Any] = json.loads(DASHBOARD.read_text())
    return content


def panels() -> list[dict[str, Any]]:
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def expressions() -> list[tuple[str, str]]:
    """Return the title and expression of every query of the dashboard, with Grafana's variables replaced."""
    found = [(panel["title"], target["expr"]) for panel in panels() for target in panel["targets"]]
    for variable, value in VARIABLES.items():
        found = [(title, expression.replace(variable, value)) for title, expression in found]
    return found


class Load:
    """Lookups of every kind: found, unknown, a broken table, a protocol violation, more keys than a budget holds."""

    def __init__(self, daemon: Daemon) -> None:
        self.daemon = daemon
        self.rounds = 0

    def play(self) -> None:
        """Ask a few hundred questions."""
        self.rounds += 1
        with self.daemon.socketmap() as client:
            for number in range(1, 100):
                domain = mail_database.DOMAINS[number % 3]
                client.ask("virtual_mailbox_maps", f"user{number}@{domain}".encode())
                client.ask("virtual_alias_maps", f"sales+{self.rounds}@{domain}".encode())
                client.ask(
                    "virtual_alias_maps", f"nobody{number}.{self.rounds}@example.net".encode()
                )
            client.ask("broken", f"{self.rounds}".encode())
            client.send(b"99999999:")
            assert client.at_end()


@pytest.fixture
def daemon(short_path: Path) -> Iterator[Daemon]:
    mail_database.create(short_path / "mail.sqlite")
    with sqlite3.connect(short_path / "mail.sqlite") as connection:
        connection.execute("CREATE TABLE gone (a)")
    connection.close()
    config = configuration.write(short_path, free_port()).read_text()
    with Valkey(short_path / "valkey") as valkey:
        (short_path / "key").write_text("a secret of thirty-two bytes, at least")
        cluster = f'[cluster]\nurl = "{valkey.url}"\nsecond_level = true\nkey_file = "key"\n'
        with Daemon(short_path, config + BROKEN_TABLE_AND_SMALL_BUDGET + cluster) as daemon:
            yield daemon


def test_no_panel_is_empty(daemon: Daemon, short_path: Path) -> None:
    """Every expression of every panel gives at least one number while the daemon is asked."""
    load = Load(daemon)
    wanted = expressions()
    assert len(wanted) > 20
    with Prometheus(short_path, daemon.listeners["http"]) as prometheus:
        empty: list[tuple[str, str]] = []

        def complete() -> bool:
            load.play()
            empty[:] = [query for query in wanted if not prometheus.numbers(query[1])]
            return not empty

        try:
            wait_until(complete, "some panels have no numbers")
        except AssertionError:
            raise AssertionError(
                "\n".join(f"{title}: {expression}" for title, expression in empty)
            ) from None


def test_variables_are_known() -> None:
    """Panels use only variables that the dashboard defines, or Grafana itself."""
    defined = {variable["name"] for variable in dashboard()["templating"]["list"]}
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(dashboard()["panels"])))
    assert used - defined - {"__rate_interval", "__range", "__auto"} == set()
    assert {"instance", "map", "datasource"} <= defined


def test_panels_do_not_overlap_and_are_explained() -> None:
    """Every panel has a title, a description, a place of its own on the grid, and the chosen data source."""
    taken: set[tuple[int, int]] = set()
    for panel in dashboard()["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= 24
        assert not taken & cells, panel["title"]
        taken |= cells
        if panel["type"] != "row":
            assert panel["title"]
            assert panel["description"]
            assert all(
                drawn["datasource"]["uid"] == "${datasource}"
                for drawn in (panel, *panel["targets"])
            )
    identifiers = [panel["id"] for panel in dashboard()["panels"]]
    assert len(set(identifiers)) == len(identifiers)
