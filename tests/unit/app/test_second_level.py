from __future__ import annotations

import time
from pathlib import Path

import pytest

from mailmapd.app.cluster import Cluster
from mailmapd.cli.stats_tables import _second_level
from mailmapd.config.loader import parse_config
from mailmapd.errors import ConfigError
from mailmapd.plan.assembly import assemble, plan

SECTION = '[cluster]\nurl = "unix:/nowhere"\nsecond_level = true\n'
DATABASE = '[database.mail]\ndriver = "mysql"\n'
TABLES = """
[table.alias]
database = "mail"
query = "SELECT goto FROM alias WHERE address = '%s'"
[table.sasl]
database = "mail"
query = "SELECT password FROM relay WHERE host = '%s'"
secret = true
[table.passwords]
database = "mail"
dovecot_query = "SELECT hash AS password FROM users WHERE name = '%u'"
[dict.auth]
passdb = "passwords"
"""


async def flush_here(_: object, __: object) -> dict[str, int]:
    return {}


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        ("", "cluster.key_file: is missing"),
        ('key_file = "short"', "holds less than 32 bytes"),
        ('key_file = "key"\nsecond_level_max_bytes = "10%"', "is a part of this machine's memory"),
    ],
)
def test_faults(more: str, problem: str, tmp_path: Path) -> None:
    """Answers are shared with a secret that nobody guesses, and in a size that every host means alike."""
    (tmp_path / "key").write_text("k" * 32)
    (tmp_path / "short").write_text("k" * 31)
    with pytest.raises(ConfigError, match=problem):
        plan(parse_config(SECTION + more, str(tmp_path / "mailmapd.toml")))


@pytest.mark.parametrize("passwords", [False, True])
async def test_passwords_only_if_asked_for(passwords: bool, tmp_path: Path) -> None:
    """Secret tables, and those of dicts, are shared only with `second_level_passwords`."""
    (tmp_path / "key").write_text("k" * 32)
    more = f'key_file = "key"\nsecond_level_passwords = {str(passwords).lower()}\n'
    text = SECTION + more + DATABASE + TABLES
    assembled = assemble(plan(parse_config(text, str(tmp_path / "mailmapd.toml"))))
    cluster = Cluster(time.monotonic, flush_here)
    origins = {name: table.origin for name, table in assembled.engine.tables.items()}
    await cluster.begin(assembled)
    changed = {
        name for name, table in assembled.engine.tables.items() if table.origin != origins[name]
    }
    assert changed == ({"alias", "sasl", "auth.passdb"} if passwords else {"alias"})
    mismatches = assembled.engine.dicts["auth"].mismatches
    assert mismatches is not None
    assert (mismatches.forget != assembled.engine.apply) == passwords
    state = cluster.state(assembled.plan.cluster)
    assert state is not None
    second = state["second_level"]
    assert second is not None
    assert (second["up"], second["answers"]["hit"]) == (False, 0)
    assert str(_second_level(second).columns[1].header) == "ASKED"
    await cluster.close()
    assert {name: table.origin for name, table in assembled.engine.tables.items()} == origins
    assert mismatches.forget == assembled.engine.apply
