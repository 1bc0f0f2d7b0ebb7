from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from mailmapd.check.files import socket_findings
from mailmapd.cli.import_ import command, dovecots_side
from mailmapd.config.loader import load_config, parse_config
from mailmapd.errors import ConfigError
from mailmapd.formats.doveconf import parse_auth_sections
from mailmapd.importers.dovecot.sql_import import import_auth_sections, import_dovecot_sql
from mailmapd.importers.draft import Draft
from mailmapd.importers.toml_writer import render
from mailmapd.plan.dict_plan import plan_dicts

SQL = """\
driver = mysql
connect = host=127.0.0.1 port=3306 dbname=mail user=me password=geheim ssl_ca=/ca.pem connect_timeout=4
default_pass_scheme = SHA512-CRYPT
password_query = SELECT "a" AS x, password \\
  FROM mailbox WHERE username='%u' AND enable%Ls%Lc=1
user_query = SELECT home FROM mailbox WHERE username='%u'
iterate_query = SELECT username AS user FROM mailbox
"""

DOVECONF = """\
# 2.3.19.1 (9b53102964): /etc/dovecot/dovecot.conf
mail_location = maildir:~/Maildir
passdb {
  args = SQLFILE
  driver = sql
}
passdb {
  driver = pam
}
service auth {
  unix_listener auth-userdb {
    mode = 0600
  }
}
userdb {
  args = uid=vmail gid=vmail home=/home/vmail/%d/%n
  driver = static
}
userdb {
  driver = prefetch
}
protocol lmtp {
  userdb {
    driver = passwd
  }
}
"""


@pytest.fixture
def sql(tmp_path: Path) -> Path:
    path = tmp_path / "dovecot-sql.conf.ext"
    path.write_text(SQL)
    return path


def test_import_gives_a_configuration(sql: Path) -> None:
    """A file becomes a database, its three queries unchanged, and a dict; the password is kept apart."""
    draft = Draft()
    assert import_dovecot_sql(draft, [sql]).dicts == ["auth"]
    text = render(draft)
    assert "geheim" not in text
    assert [database.password for database in draft.databases] == ["geheim"]
    config = parse_config(text, "mailmapd.toml")
    plan = plan_dicts(config)["auth"]
    assert plan.default_scheme == "SHA512-CRYPT"
    assert plan.passdb is not None
    assert (
        plan.passdb.text
        == "SELECT \"a\" AS x, password FROM mailbox WHERE username='%u' AND enable%Ls%Lc=1"
    )
    assert [table.database for table in plan.tables] == ["mail"] * 3
    assert config.databases["mail"].hosts == ("127.0.0.1:3306",)
    assert config.databases["mail"].tls is not None
    assert [str(entry.address) for entry in config.listen.dicts] == ["unix:/run/mailmapd/dict"]
    assert config.listen.dicts[0].peers == ("dovecot",)
    assert config.listen.lookup_http is not None


def test_keep_files(sql: Path) -> None:
    """With keep_files the dict refers to the file, and nothing of it is copied."""
    draft = Draft()
    import_dovecot_sql(draft, [sql], keep_files=True)
    assert draft.databases == []
    assert plan_dicts(parse_config(render(draft), "mailmapd.toml"))["auth"].own_database is not None


def test_two_files(sql: Path) -> None:
    """Two files give two dicts over one database when they connect alike."""
    other = sql.with_name("other.conf.ext")
    other.write_text(SQL.replace("enable%Ls%Lc=1", "active=1"))
    draft = Draft()
    assert import_dovecot_sql(draft, [sql, other]).dicts == ["auth", "auth_2"]
    assert len(draft.databases) == 1
    assert len(draft.tables) == 6


def test_sections_decide_about_queries(sql: Path) -> None:
    """A file that only a passdb names gives a passdb only, and what stays in Dovecot is noted."""
    draft = Draft()
    result = import_auth_sections(
        draft, list(parse_auth_sections(DOVECONF.replace("SQLFILE", str(sql))))
    )
    assert draft.dicts[0].settings == {
        "passdb": "dovecot_passdb",
        "default_pass_scheme": "SHA512-CRYPT",
    }
    assert result.notes == [
        "passdb with driver pam stays as it is in Dovecot's configuration.",
        (
            "userdb with driver static (uid=vmail gid=vmail home=/home/vmail/%d/%n) stays as it is "
            "in Dovecot's configuration."
        ),
        "userdb with driver prefetch stays as it is in Dovecot's configuration.",
        "protocol lmtp: userdb with driver passwd stays as it is in Dovecot's configuration.",
        (
            f"{sql}: user_query and iterate_query not moved, because no userdb section with driver = sql "
            "names the file."
        ),
    ]


@pytest.mark.parametrize("purpose", ["deny", "master", "pass"])
def test_sections_of_other_purposes_stay(sql: Path, purpose: str) -> None:
    """A passdb that keeps users out, or lets masters in, does not become one that lets its users in."""
    other = sql.with_name("other.conf.ext")
    other.write_text(SQL)
    doveconf = (
        DOVECONF.replace("SQLFILE", str(sql))
        + f"passdb {{\n  args = {other}\n  {purpose} = yes\n  driver = sql\n}}\n"
    )
    draft = Draft()
    result = import_auth_sections(draft, list(parse_auth_sections(doveconf)))
    assert result.dicts == ["auth"]
    assert (
        f"passdb with driver sql ({other}) and {purpose} = yes stays as it is in Dovecot's configuration."
        in result.notes
    )


@pytest.mark.parametrize("setting", ["deny = yes", "master = yes", "driver = dict"])
def test_files_of_other_purposes_stay(sql: Path, setting: str) -> None:
    """A file that only such a section names is not moved when it is named itself, and the others are."""
    other = sql.with_name("other.conf.ext")
    other.write_text(SQL)
    driver = "" if "driver" in setting else "  driver = sql\n"
    doveconf = (
        DOVECONF.replace("SQLFILE", str(sql))
        + f"passdb {{\n  args = {other}\n  {setting}\n{driver}}}\n"
    )
    sections = list(parse_auth_sections(doveconf))
    draft = Draft()
    result = import_dovecot_sql(draft, [sql, other], sections=sections)
    assert [section.comment for section in draft.dicts] == [f"from {sql}"]
    assert f"{other}: not moved: passdb with driver" in result.notes[-1]
    with pytest.raises(ConfigError, match="not moved: passdb with driver"):
        import_dovecot_sql(Draft(), [other], sections=sections)


def test_further_settings_are_noted(sql: Path) -> None:
    """Settings of a section that a dict does not hold are in the report, because the new section needs them, too."""
    fields = (
        "  default_fields = uid=vmail gid=vmail\n  override_fields = home=/srv/%u\n  "
        "result_failure = return-fail\n"
    )
    sql.write_text(SQL.replace("password_query", "#password_query").replace("  FROM", "#  FROM", 1))
    sections = list(parse_auth_sections(f"userdb {{\n  args = {sql}\n{fields}  driver = sql\n}}\n"))
    settings = "default_fields = uid=vmail gid=vmail; override_fields = home=/srv/%u; result_failure = return-fail"
    note = f"userdb with driver sql ({sql}) has further settings. Write them into its successor, too: {settings}"
    assert import_auth_sections(Draft(), sections).notes == [note]


def test_auth_cache_is_noted(sql: Path) -> None:
    """An auth cache of 2.3 is in the report, because it knows nothing of the passdb that asks again."""
    passdb = f"passdb {{\n  args = {sql}\n  driver = sql\n}}\n"
    note = "auth_cache_size = 10 M would let old passwords in beside new ones. Remove it: with mailmapd it is 0."
    for text, noted in (
        (f"auth_cache_size = 10 M\n{passdb}", True),
        (f"auth_cache_size = 0\n{passdb}", False),
        (f"auth_cache_size = 10 M\n{passdb.replace('passdb', 'userdb')}", False),
    ):
        result = import_auth_sections(Draft(), list(parse_auth_sections(text)))
        assert (note in result.notes) is noted


def test_nothing_to_move(sql: Path) -> None:
    """Sections without sql, and a file without the queries that a section needs, are faults."""
    with pytest.raises(ConfigError, match="has no passdb or userdb with driver = sql"):
        import_auth_sections(Draft(), list(parse_auth_sections("passdb {\n  driver = pam\n}\n")))
    sql.write_text(SQL[: SQL.index("user_query")])
    with pytest.raises(ConfigError, match="sets none of user_query, iterate_query"):
        import_auth_sections(
            Draft(), list(parse_auth_sections(f"userdb {{\n  args = {sql}\n  driver = sql\n}}\n"))
        )


def test_faults_of_queries(sql: Path) -> None:
    """A query that cannot move is a line of the report with its place, and one that cannot be cached is noted."""
    sql.write_text(SQL.replace("enable%Ls%Lc=1", "p='%w'"))
    draft = Draft()
    result = import_dovecot_sql(draft, [sql])
    assert draft.dicts[0].settings == {"userdb": "dovecot_userdb", "iterate": "dovecot_iterate"}
    assert result.notes[0].startswith(
        f"Stays as it is in Dovecot's configuration: {sql}: line 5: password_query cannot be moved: %w is the"
    )
    sql.write_text(SQL.replace("enable%Ls%Lc=1", "port='%b'"))
    assert (
        "password_query uses %{rport}, which differ at every login"
        in import_dovecot_sql(Draft(), [sql]).notes[0]
    )


def test_one_bad_passdb_of_two(sql: Path) -> None:
    """A passdb whose query cannot move stays in Dovecot, and the report says so; the other one moves."""
    other = sql.with_name("other.conf.ext")
    other.write_text(SQL.replace("enable%Ls%Lc=1", "p='%w'"))
    missing = sql.with_name("missing.conf.ext")
    files = (sql, other, missing)
    text = "".join(f"passdb {{\n  driver = sql\n  args = {file}\n}}\n" for file in files)
    draft = Draft()
    notes = import_auth_sections(draft, list(parse_auth_sections(text))).notes
    assert [section.comment for section in draft.dicts] == [f"from {sql}"]
    stays = [
        note for note in notes if note.startswith("Stays as it is in Dovecot's configuration: ")
    ]
    assert "password_query cannot be moved: %w is the password in plain" in stays[0]
    assert f"{missing}: cannot be read: No such file or directory" in stays[1]


def test_nothing_is_moved_when_every_query_is_bad(sql: Path) -> None:
    """When no query at all can move, the faults are the end of the import."""
    sql.write_text(SQL.replace("enable%Ls%Lc=1", "p='%w'").partition("user_query")[0])
    with pytest.raises(ConfigError, match="line 5: password_query cannot be moved: %w is the pass"):
        import_dovecot_sql(Draft(), [sql])


def test_sections_of_protocols_stay(sql: Path) -> None:
    """Sections inside protocol blocks are in the report, one line each, and do not become dicts for everybody."""
    nested = "".join(
        f"protocol {name} {{\n  {kind} {{\n    driver = sql\n    args = {sql}\n{more}  }}\n}}\n"
        for name, kind, more in (
            ("imap", "passdb", ""),
            ("lmtp", "userdb", ""),
            ("!smtp", "passdb", "    deny = yes\n"),
        )
    )
    sections = list(parse_auth_sections(DOVECONF.replace("SQLFILE", str(sql)) + nested))
    draft = Draft()
    notes = import_auth_sections(draft, sections).notes
    assert draft.dicts[0].settings.keys() == {"passdb", "default_pass_scheme"}
    stays = "stays as it is in Dovecot's configuration"
    assert (
        f"protocol imap: passdb with driver sql ({sql}) {stays}: it is for this protocol only."
        in notes
    )
    assert (
        f"protocol lmtp: userdb with driver sql ({sql}) {stays}: it is for this protocol only."
        in notes
    )
    assert f"protocol !smtp: passdb with driver sql ({sql}) and deny = yes {stays}." in notes


def test_dict_map_is_told_from_sql(sql: Path) -> None:
    """A dict-sql file is named as what it is, and what else there is moves."""
    other = sql.with_name("dict-sql.conf.ext")
    other.write_text(
        "connect = host=x dbname=y\nmap {\n  pattern = priv/quota\n  table = quota\n}\n"
    )
    result = import_dovecot_sql(Draft(), [sql, other])
    assert result.dicts == ["auth"]
    assert f"{other}: holds map {{ }}: this is a dict map" in result.notes[0]


def test_files_give_what_dovecot_uses_of_them(sql: Path) -> None:
    """Of a file that Dovecot's sections name, only the queries that they use are moved, also with keep_files."""
    sections = list(parse_auth_sections(DOVECONF.replace("SQLFILE", str(sql))))
    draft = Draft()
    result = import_dovecot_sql(draft, [sql], sections=sections, keep_files=True)
    assert draft.dicts[0].settings.keys() == {"passdb", "default_pass_scheme"}
    assert "user_query and iterate_query not moved" in result.notes[0]


@pytest.mark.parametrize(
    ("version", "listeners"),
    [((2, 3), {"dict"}), ((2, 4), {"lookup_http"}), (None, {"dict", "lookup_http"})],
)
def test_only_the_listener_of_the_version(
    sql: Path, version: tuple[int, int] | None, listeners: set[str]
) -> None:
    """The socket that the installed Dovecot asks is served, and both where the version is not known."""
    draft = Draft()
    import_dovecot_sql(draft, [sql], version=version)
    assert draft.listen.keys() == listeners


@pytest.mark.parametrize(
    ("listen", "printed"),
    [
        ('dict = ["unix:/d"]', "  key = passdb-fresh/%u/%Ls/%Lc/%{orig_user}\n"),
        ('lookup_http = "unix:/l"', "    fresh = yes\n"),
        ('dict = ["unix:/d"]\nlookup_http = "unix:/l"', "# Dovecot's side: mailmapd snippets "),
    ],
)
def test_an_import_prints_what_dovecot_needs(sql: Path, listen: str, printed: str) -> None:
    """Dovecot's settings are printed for the version that is served, with the question after a mismatch."""
    config = sql.with_name("mailmapd.toml")
    config.write_text(f'[listen]\n{listen}\n[dict.auth]\ndovecot_sql = "{sql.name}"\n')
    assert printed in dovecots_side(str(config))


def test_dovecot_alone_needs_no_socket_of_postfix(sql: Path) -> None:
    """Beside a Postfix without mysql: tables Dovecot's queries are served, and no socket without an answer."""
    (sql.parent / "main.cf").write_text("virtual_alias_maps = ldap:/l.cf\n")
    output = sql.parent / "out" / "mailmapd.toml"
    options = ["--postfix", str(sql.parent), "--dovecot-sql", str(sql), "--output", str(output)]
    done = CliRunner().invoke(command, options)
    assert done.exit_code == 0, done.output
    config = load_config(str(output))
    assert config.dicts.keys() == {"auth"}
    assert config.listen.socketmap == ()
    assert "no_map" not in [finding.code for finding in socket_findings(config)]


def test_an_import_prints_what_the_command_is_that_prints_it(tmp_path: Path) -> None:
    """A configuration that cannot be read here is no end of the import: the report names the command."""
    assert dovecots_side(str(tmp_path / "none.toml")).startswith("# Dovecot's side: mailmapd ")
