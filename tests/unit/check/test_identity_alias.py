"""Maps of aliases that know no alias, alone and beside the tables that stay in Postfix."""

from __future__ import annotations

from pathlib import Path

import pytest

from mailmapd.check.finding import Level
from mailmapd.check.identity_alias import identity_findings
from mailmapd.config.loader import parse_config

ITSELF = "SELECT email FROM users WHERE email = '%s'"
ALIASES = "SELECT destination FROM alias WHERE address = '%s'"
OURS = "socketmap:unix:mailmapd/socketmap:virtual_alias_maps"


def levels(folder: Path, members: str | None, **maps: list[str]) -> list[Level]:
    """Return how grave the findings are; `maps` are the queries of each map, `members` what main.cf lists."""
    names = {
        query: f"t{at}" for at, query in enumerate({q for all_ in maps.values() for q in all_})
    }
    text = '[database.d]\ndriver = "mysql"\n'
    text += "".join(f'[table.{n}]\ndatabase = "d"\nquery = "{q}"\n' for q, n in names.items())
    for name, queries in maps.items():
        text += f"[map.{name}]\ntables = {[names[query] for query in queries]}\n"
    if members is not None:
        (folder / "main.cf").write_text(f"virtual_alias_maps = {members}\n")
    config = parse_config(text, str(folder / "mailmapd.toml"))
    texts = {name: table.query or "" for name, table in config.tables.items()}
    found = identity_findings(config, texts, None if members is None else folder)
    return [finding.level for finding in found]


@pytest.mark.parametrize(
    "members", [OURS, "proxy:mysql:/x.cf", f"unionmap:{{texthash:/dev/null,{OURS}}}", ""]
)
def test_alone(tmp_path: Path, members: str) -> None:
    """An identity that is all there is finds no alias."""
    assert levels(tmp_path, members, virtual_alias_maps=[ITSELF]) == [Level.FAULT]


@pytest.mark.parametrize(
    "members",
    [
        f"hash:/etc/postfix/virtual, {OURS}",
        f"{OURS}, pcre:/etc/postfix/virtual.pcre",
        f"unionmap:{{{OURS}, inline:{{a=b}}}}",
        f"{{ regexp:/x, search_order = domain }}, {OURS}",
        f"unionmap:{{texthash:/dev/null,{OURS}}}, texthash:/etc/aliases",
    ],
)
def test_beside_other_tables(tmp_path: Path, members: str) -> None:
    """Beside hash:, pcre: and their kin, which stay in Postfix and have the aliases, it is what keeps
    mailboxes from a catch-all.
    """
    assert levels(tmp_path, members, virtual_alias_maps=[ITSELF]) == []


def test_beside_another_map(tmp_path: Path) -> None:
    """Where the list became two maps, because another table stood between them, one with aliases is enough."""
    both = {"virtual_alias_maps": [ALIASES], "virtual_alias_maps_2": [ITSELF]}
    assert levels(tmp_path, OURS, **both) == []
    both["virtual_alias_maps"] = [ITSELF]
    assert levels(tmp_path, OURS, **both) == [Level.FAULT]
    assert levels(tmp_path, OURS, virtual_alias_maps=[ITSELF, ALIASES]) == []


def test_postfix_that_is_not_looked_at(tmp_path: Path) -> None:
    """Where nobody looks into main.cf, other tables may be there: it is a warning."""
    assert levels(tmp_path, None, virtual_alias_maps=[ITSELF]) == [Level.WARNING]
    assert levels(tmp_path, None, other=[ITSELF]) == []
