"""A second import into a configuration that is being served."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner

from mailmapd.cli.import_ import command
from mailmapd.config.loader import load_config
from mailmapd.errors import ConfigError
from mailmapd.importers import toml_writer
from mailmapd.importers.draft import Draft, DraftSection
from mailmapd.importers.merge import merge
from mailmapd.importers.served import asked_maps, is_to_be_kept
from mailmapd.plan.assembly import plan
from support.installation import block, paste


def draft(
    query: str = "SELECT a", parameter: str = "virtual_alias_maps", user: str = "mail"
) -> Draft:
    """Return a draft with one database, one table and one map, from files named after the map."""
    made = Draft(comment="Written by mailmapd import.")
    made.listen["socketmap"] = ["unix:/run/x/socketmap"]
    settings = {"driver": "mysql", "hosts": ["localhost"], "user": user, "dbname": "mail"}
    name = made.database(settings, "secret", f"from /etc/{parameter}.cf")
    made.tables.append(
        DraftSection(parameter, {"database": name, "query": query}, f"/etc/{parameter}.cf")
    )
    made.maps.append(
        DraftSection(parameter, {"tables": [parameter], "search": "address"}, "main.cf")
    )
    return made


def again(first: Draft, second: Draft, folder: Path, edit: tuple[str, str] = ("", "")) -> str:
    """Write the first draft, edit it, and return the text with the second in it."""
    path = folder / "mailmapd.toml"
    toml_writer.write(first, path)
    text = path.read_text().replace(*edit) if edit[0] else path.read_text()
    return merge(second, text, path).text


def test_the_same_import_changes_no_byte(tmp_path: Path) -> None:
    """What is served already stays as it is."""
    assert again(draft(), draft(), tmp_path) == (tmp_path / "mailmapd.toml").read_text()


def test_live_maps_stay_beside_a_new_one(tmp_path: Path) -> None:
    """A draft without the maps of the first import adds its own, over the same database."""
    found = tomllib.loads(again(draft(), draft(parameter="smtpd_sender_login_maps"), tmp_path))
    assert list(found["map"]) == ["virtual_alias_maps", "smtpd_sender_login_maps"]
    assert list(found["database"]) == ["mail"]


def test_a_changed_file_renews_its_table_and_nothing_else(tmp_path: Path) -> None:
    """A panel's new query comes in; comments, other keys and hand-written sections stay."""
    mine = (
        '# mine\n[limits]\nmax_connections = 7\n\n[table.virtual_alias_maps.cache]\nttl = "9s"\n\n'
    )
    header = "[map.virtual_alias_maps]"
    edit = (header, f'{mine}{header}\nhosted_domains = "d"')
    text = again(draft(), draft("SELECT b"), tmp_path, edit)
    found = tomllib.loads(text)
    assert found["table"]["virtual_alias_maps"]["query"] == "SELECT b"
    assert found["table"]["virtual_alias_maps"]["cache"] == {"ttl": "9s"}
    assert found["map"]["virtual_alias_maps"]["hosted_domains"] == "d"
    assert "# mine\n[limits]" in text


def test_another_account_of_the_same_name_is_another_database(tmp_path: Path) -> None:
    """A database from another file that happens to have a taken name does not replace the served one."""
    text = again(draft(), draft(parameter="relay_domains", user="other"), tmp_path)
    found = tomllib.loads(text)
    assert {name: section["user"] for name, section in found["database"].items()} == {
        "mail": "mail",
        "mail_2": "other",
    }
    assert found["table"]["relay_domains"]["database"] == "mail_2"


def test_a_host_that_is_written_otherwise_is_the_served_database(tmp_path: Path) -> None:
    """A second import whose file writes the port out uses the database that is there."""
    second = draft(parameter="relay_domains")
    second.databases[0].settings["hosts"] = ["db1:3306"]
    first = draft()
    first.databases[0].settings["hosts"] = ["db1"]
    found = tomllib.loads(again(first, second, tmp_path))
    assert found["database"].keys() == {"mail"}
    assert found["map"]["relay_domains"]["tables"] == ["virtual_alias_maps"]


def test_a_table_of_a_taken_name_from_elsewhere_gets_another(tmp_path: Path) -> None:
    """A table that another file made is not overwritten by one of the same name."""
    second = draft("SELECT b", parameter="relay_domains")
    second.tables[0] = DraftSection("virtual_alias_maps", second.tables[0].settings, "/else/x.cf")
    second.maps[0].settings["tables"] = ["virtual_alias_maps"]
    found = tomllib.loads(again(draft(), second, tmp_path))
    assert found["map"]["relay_domains"]["tables"] == ["virtual_alias_maps_2"]
    assert found["table"]["virtual_alias_maps"]["query"] == "SELECT a"


def test_what_is_overwritten_is_kept(tmp_path: Path) -> None:
    """The configuration and a password file are kept under another name, with their modes, each time anew."""
    path = tmp_path / "mailmapd.toml"
    for number, user in enumerate(("a", "b", "c")):
        made = draft(user=user)
        made.databases[0] = type(made.databases[0])("mail", made.databases[0].settings, str(number))
        toml_writer.write(made, path, overwrite=True)
    names = sorted(file.name for file in tmp_path.iterdir())
    assert names == [
        "mail-imported-password",
        "mail-imported-password.before-import",
        "mail-imported-password.before-import.2",
        "mailmapd.toml",
        "mailmapd.toml.before-import",
        "mailmapd.toml.before-import.2",
    ]
    secret = tmp_path / "mail-imported-password.before-import"
    assert (secret.read_text(), secret.stat().st_mode & 0o777) == ("0", 0o600)


def test_listen_gets_only_what_is_missing(tmp_path: Path) -> None:
    """A socket that Dovecot's import needs joins the ones that are served."""
    second = draft()
    second.listen = {"socketmap": ["unix:/else"], "dict": ["unix:/run/mailmapd/dict"]}
    found = tomllib.loads(again(draft(), second, tmp_path))
    assert found["listen"] == {
        "dict": ["unix:/run/mailmapd/dict"],
        "socketmap": ["unix:/run/x/socketmap"],
    }


def test_a_query_of_several_lines_is_one_piece(tmp_path: Path) -> None:
    """A line of a long string that looks like a header is none."""
    first = draft('SELECT "a"\n[x]\nFROM b')
    found = tomllib.loads(again(first, draft(parameter="relay_domains"), tmp_path))
    assert found["table"]["virtual_alias_maps"]["query"] == 'SELECT "a"\n[x]\nFROM b'


def test_what_is_no_toml_is_not_added_to(tmp_path: Path) -> None:
    """A broken configuration is one fault, and is not overwritten."""
    with pytest.raises(ConfigError, match="is no TOML"):
        merge(draft(), "[listen", tmp_path / "mailmapd.toml")


def test_the_sample_is_replaced_unless_postfix_asks_it(tmp_path: Path) -> None:
    """The package's sample makes way for an import; once main.cf asks one of its maps, it is a configuration."""
    sample = (Path(__file__).parents[3] / "configs" / "mailmapd.toml").read_text()
    (tmp_path / "main.cf").write_text("relay_domains = socketmap:unix:x:other\n")
    assert not is_to_be_kept(sample, tmp_path)
    (tmp_path / "main.cf").write_text(
        "virtual_alias_maps = unionmap:{texthash:/dev/null,socketmap:unix:a/b:virtual_alias_maps}\n"
    )
    assert asked_maps(sample, tmp_path) == ["virtual_alias_maps"]
    assert is_to_be_kept(sample, tmp_path)
    assert is_to_be_kept("# mine\n", tmp_path)


@pytest.mark.parametrize(("first", "second"), [(True, True), (True, False), (False, True)])
def test_files_stay_in_use_over_a_second_import(tmp_path: Path, first: bool, second: bool) -> None:
    """With --keep-cf, also in one import only, what main.cf asks of mailmapd goes on, and what is new joins it."""
    cf, other = tmp_path / "x.cf", tmp_path / "y.cf"
    for file in (cf, other):
        file.write_text(
            "hosts = db1\nuser = u\npassword = pw\ndbname = mail\nquery = SELECT '%s'\n"
        )
    main_cf, output = tmp_path / "main.cf", tmp_path / "mailmapd.toml"
    main_cf.write_text(f"virtual_alias_maps = mysql:{cf}\n")
    options = ["--postfix", str(tmp_path), "--output", str(output)]
    done = CliRunner().invoke(command, [*options, *["--keep-cf"] * first])
    assert done.exit_code == 0, done.output
    asked = "socketmap:unix:mailmapd/socketmap:virtual_alias_maps"
    assert f"'virtual_alias_maps = {asked}'" in done.output
    main_cf.write_text(f"virtual_alias_maps = {asked}\nsmtpd_sender_login_maps = mysql:{other}\n")
    done = CliRunner().invoke(command, [*options, "--force", *["--keep-cf"] * second])
    assert done.exit_code == 0, done.output
    config = load_config(str(output))
    plan(config)
    kept = {
        name: bool(config.tables[map_.tables[0]].postfix_cf) for name, map_ in config.maps.items()
    }
    assert kept == {"virtual_alias_maps": first, "smtpd_sender_login_maps": second}


@pytest.mark.servers
@pytest.mark.parametrize("options", [(), ("--keep-cf",)])
def test_a_name_that_is_asked_goes_on_to_mean_its_table(
    tmp_path: Path, options: tuple[str, ...]
) -> None:
    """A table before the others, in each import after a switch, takes no name that main.cf asks before the paste."""
    for name in "abcd":
        text = "hosts = db1\nuser = u\npassword = pw\ndbname = mail\n"
        (tmp_path / f"{name}.cf").write_text(f"{text}query = SELECT '{name}%s'\n")
    main_cf, output = tmp_path / "main.cf", tmp_path / "mailmapd.toml"
    a, b = (f"mysql:{tmp_path}/{name}.cf" for name in "ab")
    main_cf.write_text(
        f"smtpd_recipient_restrictions = check_recipient_access {a}, check_recipient_access {b}\n"
        f"postscreen_access_list = {b}, {a}\n"
    )
    arguments = ["--postfix", str(tmp_path), "--output", str(output), "--force", *options]
    asked: dict[str, str] = {}
    for new in ("", "c", "d"):
        if new:
            text = main_cf.read_text()
            for first in ("check_recipient_access ", "postscreen_access_list = "):
                other = f"mysql:{tmp_path}/{new}.cf, "
                other += first if first.startswith("check") else ""
                text = text.replace(first, first + other, 1)
            main_cf.write_text(text)
        done = CliRunner().invoke(command, arguments)
        assert done.exit_code == 0, done.output
        served = tables(output)
        assert {name: served[name] for name in asked} == asked
        paste(block(done.output, "Switch over"))
        names = re.findall(r"socketmap:unix:mailmapd/socketmap:(\w+)", main_cf.read_text())
        asked = {name: served[name] for name in names}
        assert (
            "".join(served[name] for name in names)
            == {
                "": "abba",
                "c": "cabcba",
                "d": "dcabdcba",
            }[new]
        )
    back = (tmp_path / "main.cf.before-mailmapd").read_text()
    assert re.findall(r"/(\w)\.cf", back) == list("dcabdcba")


def tables(output: Path) -> dict[str, str]:
    """Return the letter of the .cf file behind each map of one table."""
    config = load_config(str(output))
    found = {}
    for name, section in config.maps.items():
        table = config.tables[section.tables[0]]
        found[name] = Path(table.postfix_cf).stem if table.postfix_cf else (table.query or "")[8]
    return found
