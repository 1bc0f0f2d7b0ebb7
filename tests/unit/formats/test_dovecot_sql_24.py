"""Dovecot 2.4's own syntax, from its files and from what `doveconf -n -P` of 2.4.1 has printed."""

from __future__ import annotations

from pathlib import Path

import pytest

from mailmapd.config.loader import parse_config
from mailmapd.errors import ConfigError
from mailmapd.formats.doveconf import parse_auth_sections
from mailmapd.formats.dovecot_sql import read_dovecot_sql
from mailmapd.importers.dovecot.sql_import import import_auth_sections, import_dovecot_sql
from mailmapd.importers.draft import Draft
from mailmapd.importers.toml_writer import render
from mailmapd.plan.dict_plan import plan_dicts

PRINTED = r"""# 2.4.1-4 (7d8c0e5759): /etc/dovecot/dovecot.conf
# OS: Linux 6.1.0 x86_64 Debian 13.8
dovecot_config_version = 2.4.1
dovecot_storage_version = 2.4.1
sql_driver = mysql
ssl_server_key_file = </etc/ssl/private/key.pem
mysql localhost {
  connect_timeout = 4 secs
  dbname = mail
  password = "p # w\"x"
  port = 3307
  user = me
}
mysql /run/mysqld/mysqld.sock {
  dbname = mail
  password = "p # w\"x"
  user = me
}
mysql db2.example.net {
  dbname = mail
  password = "p # w\"x"
  port = 3307
  user = me
}
passdb sql {
  default_password_scheme = SHA512-CRYPT
  query = SELECT username AS user, password FROM mailbox WHERE username = '%{user}' AND active = 1 AND '%{protocol}' <> 'x'
  result_failure = continue
}
passdb other {
  deny = yes
  driver = sql
  sql_query = "SELECT 1 FROM x WHERE u = \'%{user | username | lower}\' AND \'a # b\' <> \'\'"
  sql_driver = sqlite
  sqlite_path = /etc/x.db
}
userdb sql {
  iterate_query = SELECT username AS user FROM mailbox
  query = SELECT home FROM mailbox WHERE username = '%{user | username | lower}' AND d LIKE '%{user|domain}%' AND x = '%u %%{'
}
userdb static {
  fields {
    home = /home/vmail/%{user|domain}/%{user|username}
    uid = vmail
  }
}
protocol imap {
  passdb sql2 {
    driver = sql
    sql_query = SELECT password FROM x WHERE u = '%{user}'
  }
}
"""


def test_printed_configuration() -> None:
    """What doveconf prints becomes a database with all hosts, a table per query and a dict; the
    rest is in the report.
    """
    draft = Draft()
    notes = import_auth_sections(draft, list(parse_auth_sections(PRINTED))).notes
    text = render(draft)
    assert [database.password for database in draft.databases] == ['p # w"x']
    assert 'w"x' not in text
    config = parse_config(text, "mailmapd.toml")
    assert config.databases["mail"].hosts == (
        "localhost",
        "unix:/run/mysqld/mysqld.sock",
        "db2.example.net:3307",
    )
    assert config.databases["mail"].user == "me"
    plan = plan_dicts(config)["auth"]
    assert plan.default_scheme == "SHA512-CRYPT"
    assert plan.passdb is not None
    assert plan.passdb.key.names == ("service",)
    assert plan.userdb is not None
    values = {"user": b"Some.One@B.example"}
    key = plan.userdb.definition.query.sql_key(values)
    assert key == b"some.one\0B.example"
    statement = plan.userdb.definition.statement(key)
    assert b"".join(piece for piece in statement.pieces if isinstance(piece, bytes)).endswith(
        b"%' AND x = '%u %{'"
    )
    assert config.listen.lookup_http is not None
    assert not config.listen.dicts
    stays = "stays as it is in Dovecot's configuration"
    where = "both of its successors, result_failure into the second alone"
    further = f"passdb with driver sql has further settings. Write them into {where}"
    assert notes == [
        f"{further}: result_failure = continue",
        f"passdb with driver sql and deny = yes {stays}.",
        f"userdb with driver static {stays}.",
        f"protocol imap: passdb with driver sql {stays}: it is for this protocol only.",
    ]


def test_different_databases() -> None:
    """A passdb and a userdb that ask different databases are two dicts."""
    own = "  mysql other {\n    dbname = users\n    user = it\n  }\n"
    text = PRINTED.replace("userdb sql {\n", "userdb sql {\n" + own)
    draft = Draft()
    import_auth_sections(draft, list(parse_auth_sections(text)))
    assert [section.settings.keys() for section in draft.dicts] == [
        {"passdb", "default_pass_scheme"},
        {"userdb", "iterate"},
    ]
    assert [database.name for database in draft.databases] == ["mail", "users"]


def test_two_passdbs_and_one_bad() -> None:
    """Each passdb with SQL is a dict of its own, in their order; one that cannot move is a line of the report."""
    more = "passdb b {\n  driver = sql\n  sql_query = SELECT 1 AS password FROM x WHERE p = '%{password}'\n}\n"
    more += "passdb c {\n  driver = sql\n  sql_query = SELECT 2 AS password FROM x WHERE u = '%{user | md5}'\n}\n"
    more += "passdb d {\n  driver = sql\n  sql_query = SELECT 3 AS password FROM x WHERE u = '%{user | upper}'\n}\n"
    draft = Draft()
    notes = import_auth_sections(draft, list(parse_auth_sections(PRINTED + more))).notes
    assert [section.name for section in draft.dicts] == ["auth", "auth_2"]
    assert "SELECT 3" in draft.tables[-1].settings["dovecot_query"]
    bad = [note for note in notes if note.startswith("Stays as it is")]
    assert "passdb b: query cannot be moved: %{password} is the password in plain" in bad[0]
    assert "passdb c: query cannot be moved: %{user | md5}: the filter md5" in bad[1]


def test_hidden_password() -> None:
    """A password that doveconf has hidden is a fault that says how to print it, never an empty one."""
    text = PRINTED.replace('"p # w\\"x"', "# hidden, use -P to show it")
    with pytest.raises(ConfigError, match="the password is hidden; print it with doveconf -n -P"):
        import_auth_sections(Draft(), list(parse_auth_sections(text)))


SOURCE = """\
dovecot_config_version = 2.4.1
!include_try nothing/*.conf
!include sql.inc
passdb sql {   # the only one
  passdb_default_password_scheme = BLF-CRYPT
  passdb_sql_query = SELECT password \\
    FROM mailbox \\
    # a comment inside
    WHERE username = '%{user}'
}
userdb sql {
  query = <user.sql
  userdb_sql_iterate_query = SELECT username FROM mailbox
}
"""
INCLUDED = """\
sql_driver = mysql
mysql localhost {
  mysql_user = me
  mysql_password = <password
  mysql_dbname = mail
  mysql_ssl = yes
  ssl_client_ca_file = /etc/ssl/ca.pem
}
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "sql.inc").write_text(INCLUDED)
    (tmp_path / "user.sql").write_text("SELECT home\nFROM mailbox WHERE username = '%{user}'\n")
    (tmp_path / "password").write_text("geheim\n")
    path = tmp_path / "auth-sql.conf.ext"
    path.write_text(SOURCE)
    return path


def test_file(source: Path) -> None:
    """A file of 2.4 is read with its includes, long names and continued lines, as one of 2.3 is."""
    conf = read_dovecot_sql(source)
    assert conf.password_query == "SELECT password FROM mailbox WHERE username = '%{user}'"
    assert conf.user_query == "SELECT home\nFROM mailbox WHERE username = '%{user}'"
    assert conf.iterate_query == "SELECT username FROM mailbox"
    assert conf.default_pass_scheme == "BLF-CRYPT"
    assert conf.connect.hosts == ("localhost",)
    assert (conf.connect.user, conf.connect.password) == ("me", "geheim")
    assert conf.connect.ssl_ca == "/etc/ssl/ca.pem"


def test_file_in_mailmapd_toml(source: Path) -> None:
    """`dovecot_sql` takes a file of 2.4."""
    text = f'[listen]\nlookup_http = "unix:/x"\n[dict.auth]\ndovecot_sql = "{source}"\n'
    plan = plan_dicts(parse_config(text, str(source.parent / "mailmapd.toml")))["auth"]
    assert [table.name for table in plan.tables] == ["auth.passdb", "auth.userdb", "auth.iterate"]


def test_file_is_imported(source: Path) -> None:
    """`--dovecot-sql` takes a file of 2.4, and serves the socket that 2.4 asks, whatever is installed here."""
    draft = Draft()
    assert import_dovecot_sql(draft, [source], version=(2, 3)).dicts == ["auth"]
    assert draft.listen.keys() == {"lookup_http"}


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("passdb sql {", "passdb sql { }\npassdb sql {", "closes a block that is not open|neither"),
        ("}\nuserdb", "userdb", "is not closed"),
        ("!include sql.inc", "!include none.inc", "no such file"),
        ("!include sql.inc", "sql_driver = pgsql", "sql_driver is pgsql"),
        ("!include sql.inc", "sql_driver = mysql", "there is no mysql block"),
        ("!include sql.inc", "sql_driver = sqlite", "sqlite_path is not set"),
        ("!include sql.inc", "!include auth-sql.conf.ext", "includes itself"),
        ("<user.sql", "<none.sql", "names <none.sql, which cannot be read"),
        (
            "userdb sql {",
            "passdb two {\ndriver = sql\n}\nuserdb sql {",
            "has several passdb blocks",
        ),
    ],
)
def test_faults(source: Path, old: str, new: str, problem: str) -> None:
    """What cannot be read is told with its place."""
    source.write_text(SOURCE.replace(old, new))
    with pytest.raises(ConfigError, match=problem):
        read_dovecot_sql(source)


def test_hosts_must_agree(source: Path) -> None:
    """Hosts with different accounts are a fault: one of them would be asked with the other's password."""
    path = source.with_name("sql.inc")
    path.write_text(INCLUDED + "mysql db2 {\n  user = other\n  dbname = mail\n  ssl = yes\n}\n")
    with pytest.raises(ConfigError, match="the mysql blocks differ in user") as caught:
        read_dovecot_sql(source)
    assert "geheim" not in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ('"p # w\\"x"', "$ENV:DBPASS", "mysql localhost: password holds $ENV:DBPASS, "),
        ("user = me", "user = %{env:DBUSER}", "mysql localhost: user holds %{env:DBUSER}, "),
        ("dbname = mail", "dbname = $SET:mail_uid", "mysql localhost: dbname holds $SET:mail_uid"),
        ("active = 1", "active = $ENV:ACTIVE", "passdb sql: query holds $ENV:ACTIVE, "),
        ('"p # w\\"x"', "</nonexistent", "mysql localhost: password holds </nonexistent, "),
    ],
)
def test_what_dovecot_alone_can_read(old: str, new: str, problem: str) -> None:
    """A value of Dovecot's environment, of another setting or of a missing file is never taken as it is written."""
    draft = Draft()
    try:
        sections = list(parse_auth_sections(PRINTED.replace(old, new)))
        notes = import_auth_sections(draft, sections).notes
    except ConfigError as error:
        notes = list(map(str, error.faults))
    assert [note for note in notes if problem in note], notes
    assert new not in render(draft)


def test_values_in_files_and_quotes(tmp_path: Path) -> None:
    """A password may stand in a file of its own, and words in quotes mean themselves."""
    (tmp_path / "pw").write_text("geheim\n")
    text = PRINTED.replace('"p # w\\"x"', f"<{tmp_path}/pw").replace("= mail\n", '= "$ENV:a b"\n')
    draft = Draft()
    import_auth_sections(draft, list(parse_auth_sections(text)))
    assert [database.password for database in draft.databases] == ["geheim"]
    assert draft.databases[0].settings["dbname"] == "$ENV:a b"
