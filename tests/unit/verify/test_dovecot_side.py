"""Which dict is compared with Dovecot's own file."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from mailmapd.cli import mailmapd
from mailmapd.config.loader import parse_config
from mailmapd.config.schema import Config
from mailmapd.errors import ConfigError
from mailmapd.verify.dovecot_side import dict_of

FILE = Path("/etc/dovecot/sql.conf.ext")
KEPT = f'dovecot_sql = "{FILE}"\n'
OTHER = 'dovecot_sql = "other.conf.ext"\n'


def config(**dicts: str) -> Config:
    """Return a configuration with these dicts."""
    text = "".join(f"[dict.{name}]\n{keys}" for name, keys in dicts.items())
    return parse_config(text, "/etc/mailmapd/mailmapd.toml")


def test_one_dict() -> None:
    """A dict that is alone is meant, whatever its file."""
    assert dict_of(config(auth=OTHER), FILE) == "auth"


def test_the_dict_of_the_file() -> None:
    """Of several dicts the one is meant that uses this very file, relative names included."""
    several = config(auth=OTHER, staff=KEPT)
    assert dict_of(several, FILE) == "staff"
    assert dict_of(several, Path("/etc/mailmapd/other.conf.ext")) == "auth"


def test_a_named_dict() -> None:
    """A name decides, also against the file."""
    assert dict_of(config(auth=OTHER, staff=KEPT), FILE, "auth") == "auth"


@pytest.mark.parametrize(
    ("dicts", "wanted", "words"),
    [
        ({}, None, "there is no dict; add Dovecot's queries"),
        ({"auth": OTHER, "staff": OTHER}, None, "may be meant: auth, staff; .* --dict NAME"),
        ({"a": KEPT, "b": KEPT, "c": OTHER}, None, "may be meant: a, b; "),
        ({"auth": OTHER, "staff": OTHER}, "stuff", 'no dict "stuff"; the dicts are: auth, staff'),
        ({"auth": OTHER}, "x", 'no dict "x"; the dicts are: auth'),
    ],
)
def test_no_dict(dicts: dict[str, str], wanted: str | None, words: str) -> None:
    """Where it is not clear, the error names the choices and the option."""
    with pytest.raises(ConfigError, match=words):
        dict_of(config(**dicts), FILE, wanted)


def test_option_on_the_command_line(tmp_path: Path) -> None:
    """The option needs the file, and its name reaches the comparison."""
    path = tmp_path / "mailmapd.toml"
    path.write_text(f"[dict.a]\n{OTHER}[dict.b]\n{OTHER}")
    command = ["verify", "--config", str(path), "--dict", "c"]
    done = CliRunner().invoke(mailmapd, command)
    assert (done.exit_code, "--dict goes with --dovecot-sql FILE" in done.output) == (2, True)
    done = CliRunner().invoke(mailmapd, [*command, "--dovecot-sql", str(FILE)])
    assert (done.exit_code, "the dicts are: a, b" in done.output) == (78, True), done.output
