"""Writing the configuration and its secrets."""

from __future__ import annotations

import re
import stat
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from mailmapd.cli import mailmapd
from mailmapd.config.loader import load_config
from mailmapd.config.schema import Seconds
from mailmapd.config.secrets import database_password
from mailmapd.errors import ConfigError
from mailmapd.importers import toml_writer
from mailmapd.importers.draft import Draft, DraftSection
from support.guide import PROJECT


def draft(password: str = "secret") -> Draft:
    """Return a small draft."""
    made = Draft(comment="First line.\nSecond line.")
    made.listen["socketmap"] = ["unix:/run/x/socketmap"]
    name = made.database(
        {"driver": "mysql", "hosts": ["localhost"], "dbname": "mail"}, password, "from a.cf"
    )
    made.tables.append(
        DraftSection(
            "a",
            {
                "database": name,
                "query": "SELECT 1 WHERE a = '%s' AND b <> \"x\\y\"",
                "cache": {"ttl": "30s"},
            },
            "a.cf",
        )
    )
    made.maps.append(DraftSection("with.dot", {"tables": ["a"], "search": "exact"}))
    return made


def test_the_configuration_loads_again(tmp_path: Path) -> None:
    """What is written is a configuration with the same values, and the password comes from its own file."""
    written = toml_writer.write(draft('quo"te # it\\'), tmp_path / "new" / "mailmapd.toml")
    assert [path.name for path in written] == ["mail-imported-password", "mailmapd.toml"]
    config = load_config(written[-1])
    assert config.tables["a"].query == "SELECT 1 WHERE a = '%s' AND b <> \"x\\y\""
    assert config.tables["a"].cache.ttl == Seconds(30)
    assert config.maps["with.dot"].tables == ("a",)
    assert database_password(config, "mail") == 'quo"te # it\\'


def test_no_credential_takes_the_place_of_an_imported_password(tmp_path: Path) -> None:
    """A credential of the guide's account, which the unit loads, is not taken for the password of the `.cf` files."""
    *_, path = toml_writer.write(draft("of the .cf file"), tmp_path / "mailmapd.toml")
    unit = (PROJECT / "systemd/mailmapd.service").read_text()
    for name in re.findall(r"^LoadCredential=(\S+)$", unit, re.MULTILINE):
        (tmp_path / "store").mkdir(exist_ok=True)
        (tmp_path / "store" / name).write_text("of the new account")
    environment = {"CREDENTIALS_DIRECTORY": str(tmp_path / "store")}
    assert database_password(load_config(path), "mail", environment) == "of the .cf file"


def test_secrets_are_their_owners_alone(tmp_path: Path) -> None:
    """The password file has mode 0600, and the configuration does not hold the password."""
    secret, config = toml_writer.write(draft(), tmp_path / "mailmapd.toml")
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    assert "secret" not in config.read_text()


def test_nothing_is_replaced_unasked(tmp_path: Path) -> None:
    """An existing file is left alone, with nothing else written, until it is to be replaced."""
    target = tmp_path / "mailmapd.toml"
    target.write_text("mine")
    with pytest.raises(ConfigError, match="exists already"):
        toml_writer.write(draft(), target)
    assert (target.read_text(), sorted(path.name for path in tmp_path.iterdir())) == (
        "mine",
        ["mailmapd.toml"],
    )
    toml_writer.write(draft(), target, overwrite=True)
    assert "First line." in target.read_text()


def test_a_folder_that_is_a_file_is_one_fault(tmp_path: Path) -> None:
    """A target that cannot be written is one fault, and no temporary file stays."""
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be written"):
        toml_writer.write(draft(), tmp_path / "file" / "mailmapd.toml")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_equal_credentials_are_one_database() -> None:
    """Databases are merged when settings and password are equal, and only then."""
    made = Draft()
    names = [
        made.database({"driver": "mysql", "dbname": "mail", "user": user}, password, "")
        for user, password in (("a", "x"), ("a", "x"), ("a", "y"), ("b", "x"))
    ]
    assert names == ["mail", "mail", "mail_2", "mail_3"]


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_survives(text: str) -> None:
    """Every text is written as a TOML string that reads back as the same text."""
    assert tomllib.loads(f"a = {toml_writer.toml_value(text)}")["a"] == text.replace("\r\n", "\r\n")


@given(
    st.recursive(
        st.booleans() | st.integers(-(2**60), 2**60), lambda inner: st.lists(inner, max_size=40)
    )
)
def test_any_list_survives(value: object) -> None:
    """Numbers, truths and lists of any length read back."""
    assert tomllib.loads(f"a = {toml_writer.toml_value([value])}")["a"] == [value]


def test_replaced_file_stays_as_readable_as_it_was(tmp_path: Path) -> None:
    """A configuration that is replaced keeps its mode: an administrator may have closed it to others."""
    target = tmp_path / "mailmapd.toml"
    target.write_text("# mine\n")
    target.chmod(0o640)
    toml_writer.write(draft(), target, overwrite=True)
    assert target.stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("before", [None, 0o644, 0o666, 0o640, 0o600])
def test_no_query_becomes_more_open(tmp_path: Path, before: int | None) -> None:
    """The configuration is closed to others, also in the place of one that was not: the `.cf` file
    of a query with a key in it may have been closed.
    """
    target = tmp_path / "mailmapd.toml"
    if before is not None:
        target.write_text("# mine\n")
        target.chmod(before)
    toml_writer.write(draft(), target, overwrite=True)
    assert target.stat().st_mode & 0o007 == 0
    assert target.stat().st_mode & 0o640 == (0o640 if before is None else before & 0o640)


@pytest.mark.root
@pytest.mark.parametrize("before", [None, 0o644])
def test_the_daemon_may_read_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: int | None
) -> None:
    """Its group is the daemon's where that exists, so that closing it to others does not stop the daemon."""
    monkeypatch.setattr(toml_writer, "_ACCOUNT", "daemon")
    target = tmp_path / "mailmapd.toml"
    if before is not None:
        target.write_text("# mine\n")
        target.chmod(before)
    toml_writer.write(draft(), target, overwrite=True)
    assert (target.owner(), target.group()) == ("root", "daemon")
    assert (tmp_path / "mail-imported-password").owner() == "daemon"


def test_databases_that_differ_in_times_alone() -> None:
    """Two databases whose times alone differ stay two: joined, one of them would change. The report says so."""
    made = Draft()
    server = {"driver": "mysql", "dbname": "mail", "user": "u"}
    made.database({**server, "hosts": ["localhost"]}, "x", "")
    made.database({**server, "hosts": ["localhost"], "retry_interval": 5}, "x", "")
    made.database({**server, "hosts": ["localhost"], "retry_interval": 5}, "y", "")
    made.database({**server, "hosts": ["other"], "idle_interval": 5}, "x", "")
    [note] = made.notes()
    assert note.startswith("[database.mail] and [database.mail_2] are one server and one account")
    assert "(retry_interval)" in note
    assert 'database = "mail"' in note


def test_the_report_has_these_notes(tmp_path: Path) -> None:
    """`import` prints them, for Postfix's files and for Dovecot's with another timeout alike."""
    for name, more in (("a", ""), ("b", "retry_interval = 5\n")):
        query = "SELECT d FROM t WHERE a = '%s'"
        text = f"user = u\npassword = x\nhosts = h\ndbname = mail\nquery = {query}\n{more}"
        (tmp_path / f"{name}.cf").write_text(text)
    (tmp_path / "master.cf").touch()
    (tmp_path / "main.cf").write_text(
        f"virtual_alias_maps = mysql:{tmp_path}/a.cf\nrelay_domains = mysql:{tmp_path}/b.cf\n"
    )
    output = str(tmp_path / "mailmapd.toml")
    command = ["import", "--postfix", str(tmp_path), "--output", output]
    done = CliRunner().invoke(mailmapd, command)
    assert done.exit_code == 0, done.output
    assert "# [database.mail] and [database.mail_2] are one server" in done.output
