"""The JSON Schema of mailmapd.toml, which editors use: made from the classes, in step with what the daemon takes."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from mailmapd.config.loader import parse_config
from mailmapd.errors import ConfigError

PROJECT = Path(__file__).parents[2]
SCHEMA = PROJECT / "configs" / "mailmapd.schema.json"
SAMPLE = (PROJECT / "configs" / "mailmapd.toml").read_text()
DATABASE = '[database.mail]\ndriver = "sqlite"\npath = "mail.sqlite"\n'
TABLE = f'{DATABASE}[table.t]\ndatabase = "mail"\nquery = "SELECT v FROM t WHERE k = \'%s\'"\n'


def uncommented(sample: str) -> str:
    """Return the sample with every default that is shown as a comment, but for what excludes other keys."""
    lines = [
        line[1:] if line.startswith("#") and line[1:2] not in (" ", "#", ":", "-", "") else line
        for line in sample.splitlines()
    ]
    return "\n".join(lines)


@pytest.fixture(scope="module")
def validator() -> Any:
    """The schema, itself checked."""
    schema = json.loads(SCHEMA.read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def refused(validator: Any, text: str) -> bool:
    """Tell whether the schema refuses a configuration."""
    return not validator.is_valid(tomllib.loads(text))


def faulty(text: str) -> bool:
    """Tell whether the daemon refuses it."""
    try:
        parse_config(text, "mailmapd.toml")
    except ConfigError:
        return True
    return False


def test_schema_is_what_the_classes_say(tmp_path: Path) -> None:
    """The schema in the repository is what `scripts/schema` makes of the classes and the sample now."""
    subprocess.run([sys.executable, PROJECT / "scripts" / "schema", tmp_path / "new"], check=True)
    assert (tmp_path / "new").read_text() == SCHEMA.read_text(), "run scripts/schema"


def test_sample_names_the_schema() -> None:
    """Editors find the schema by the sample's first line, and it is there."""
    first = SAMPLE.splitlines()[0]
    assert first == "#:schema ./mailmapd.schema.json"
    assert SCHEMA.exists()


def test_sample_and_presets_are_valid(validator: Any) -> None:
    """The sample, also with every default written out, and every ready-made configuration fit the schema."""
    texts = [SAMPLE, uncommented(SAMPLE)]
    texts += [path.read_text() for path in (PROJECT / "configs" / "schemas").glob("*.toml")]
    assert len(texts) > 5
    for text in texts:
        errors = [error.message for error in validator.iter_errors(tomllib.loads(text))]
        assert errors == []


def test_every_key_of_the_sample_is_described(validator: Any) -> None:
    """An editor shows the sample's comments: most keys have a description."""
    definitions = validator.schema["$defs"].values()
    keys = [key for definition in definitions for key in definition["properties"].values()]
    described = [key for key in keys if "description" in key]
    assert len(described) > len(keys) / 2


@pytest.mark.parametrize(
    "text",
    [
        "",
        TABLE,
        f'{TABLE}[table.t.cache]\nttl = "5m"\n',
        f'{TABLE}[map.m]\ntables = ["t"]\nsearch = ["full", "at_domain"]\n',
        '[listen]\nsocketmap = ["unix:/run/a", {address = "unix:/run/b", mode = "0660"}]\n',
        '[listen]\nhttp = "127.0.0.1:9780"\n[listen.tcp_table]\n',
        '[listen]\nsocketmap = "unix:/run/a"\n',
        '[listen]\nsocketmop = ["unix:/run/a"]\n',
        '[listen]\nhttp = {group = "x"}\n',
        '[listen]\nhttp = {address = "unix:/run/a", mode = "0999"}\n',
        "[limits]\nmax_connections = 0\n",
        "[limits]\nmax_connections = 1.5\n",
        '[limits]\nmax_connections = "10"\n',
        '[cache]\nttl = "five minutes"\n',
        "[cache]\nttl = -1\n",
        "[cache]\nrefresh_ahead = 1.0\n",
        "[cache]\nrefresh_ahead = 0\n",
        "[cache]\njitter = true\n",
        '[log]\nlevel = "loud"\n',
        '[database.mail]\npath = "x"\n',
        '[database.mail]\ndriver = "oracle"\n',
        "cache = 5\n",
        "table = 5\n",
        f"{TABLE}[map.m]\ntables = []\n",
        f"{TABLE}[map.m]\nsearch = 'exact'\n",
        f"{TABLE}[table.t.cache]\nmax_entries = 0\n",
        "[dict.auth]\npassdb = 5\n",
        'file = "x"\n',
    ],
)
def test_schema_refuses_what_the_daemon_refuses(validator: Any, text: str) -> None:
    """Of types, ranges, choices and names of keys, the schema says what the daemon says."""
    assert refused(validator, text) == faulty(text)
