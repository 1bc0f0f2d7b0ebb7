from __future__ import annotations

from pathlib import Path

import pytest

from mailmapd.config.loader import load_config
from mailmapd.config.schema import FileName, Seconds, TlsSection
from mailmapd.engine.dicts.definition import PostfixUserQuery
from mailmapd.errors import ConfigError
from mailmapd.plan import assembly
from mailmapd.plan.dict_plan import DictPlan, plan_dicts

SQL = """\
driver = mysql
connect = host=/run/mysqld/mysqld.sock host=db2 dbname=mail user=me password=geheim ssl_ca=/ca.pem read_timeout=2
default_pass_scheme = SHA512-CRYPT
password_query = SELECT password FROM mailbox WHERE username='%u' AND enable%Ls%Lc=1
user_query = SELECT home FROM mailbox WHERE username='%u'
iterate_query = SELECT username AS user FROM mailbox
"""
MAIL = '[database.mail]\ndriver = "sqlite"\npath = "mail.sqlite"\n'


def plan(tmp_path: Path, toml: str, sql: str = SQL) -> DictPlan:
    (tmp_path / "dovecot-sql.conf.ext").write_text(sql)
    (tmp_path / "mailmapd.toml").write_text(toml)
    return plan_dicts(load_config(tmp_path / "mailmapd.toml"))["auth"]


def test_passwords_are_stale_for_minutes(tmp_path: Path) -> None:
    """A password outlives an unreachable database for a quarter of an hour, a user for a day,
    unless the table says so.
    """
    text = """
[dict.auth]
passdb = "p"
userdb = "u"
[table.p]
database = "mail"
dovecot_query = "SELECT password FROM t WHERE u = '%u'"
[table.u]
database = "mail"
dovecot_query = "SELECT home FROM t WHERE u = '%u'"
[table.s]
database = "mail"
query = "SELECT password FROM t WHERE h = '%s'"
secret = true
"""
    (tmp_path / "mailmapd.toml").write_text(MAIL + text)
    made = assembly.plan(load_config(tmp_path / "mailmapd.toml"))
    assert made.dicts.tables["auth.passdb"].cache.stale_ttl == 900.0
    assert made.dicts.tables["auth.userdb"].cache.stale_ttl == 86400.0
    assert made.tables["s"].cache.stale_ttl == 900.0
    (tmp_path / "mailmapd.toml").write_text(MAIL + text + '[table.p.cache]\nstale_ttl = "2h"\n')
    made = assembly.plan(load_config(tmp_path / "mailmapd.toml"))
    assert made.dicts.tables["auth.passdb"].cache.stale_ttl == 7200.0
    (tmp_path / "mailmapd.toml").write_text(MAIL + text + '[cache]\nstale_ttl = "1m"\n')
    made = assembly.plan(load_config(tmp_path / "mailmapd.toml"))
    assert made.dicts.tables["auth.passdb"].cache.stale_ttl == 60.0


def test_dovecot_sql_file(tmp_path: Path) -> None:
    """A dovecot-sql.conf.ext gives three tables over the database it connects to, its scheme and its keys."""
    planned = plan(tmp_path, '[dict.auth]\ndovecot_sql = "dovecot-sql.conf.ext"\n')
    assert [(table.name, table.database) for table in planned.tables] == [
        ("auth.passdb", "dict.auth"),
        ("auth.userdb", "dict.auth"),
        ("auth.iterate", "dict.auth"),
    ]
    assert planned.passdb is not None
    assert planned.passdb.key.template == "passdb/%u/%Ls/%Lc"
    assert planned.default_scheme == "SHA512-CRYPT"
    assert planned.own_database is not None
    assert planned.own_database.hosts == ("unix:/run/mysqld/mysqld.sock", "db2")
    assert (
        planned.own_database.user,
        planned.own_database.password,
        planned.own_database.dbname,
    ) == (
        "me",
        "geheim",
        "mail",
    )
    assert planned.own_database.tls == TlsSection(ca=FileName("/ca.pem"), ciphers=None)
    assert planned.own_database.query_timeout == Seconds(2.0)


def test_dovecot_sql_over_a_configured_database(tmp_path: Path) -> None:
    """`database` replaces what the file connects to."""
    planned = plan(
        tmp_path, f'{MAIL}[dict.auth]\ndovecot_sql = "dovecot-sql.conf.ext"\ndatabase = "mail"\n'
    )
    assert planned.own_database is None
    assert {table.database for table in planned.tables} == {"mail"}


def test_tables(tmp_path: Path) -> None:
    """A dict may name tables, with Dovecot's variables or with mysql_table's, and an unprefixed
    password is CRYPT by default.
    """
    planned = plan(
        tmp_path,
        f"{MAIL}[table.p]\ndatabase = 'mail'\ndovecot_query = \"SELECT password FROM m WHERE u='%u' AND s='%s'\"\n"
        "[table.u]\ndatabase = 'mail'\nquery = \"SELECT home FROM m WHERE "
        "u='%s'\"\n[dict.auth]\npassdb = 'p'\nuserdb = 'u'\n",
    )
    assert planned.default_scheme == "CRYPT"
    assert planned.passdb is not None
    assert planned.userdb is not None
    assert (planned.passdb.key.template, planned.userdb.key.template) == (
        "passdb/%u/%s",
        "userdb/%u",
    )
    query = planned.userdb.definition.query
    assert isinstance(query, PostfixUserQuery)
    assert query.sql_key({"user": b"a@b"}) == b"a@b"
    assert query.concerns(b"a@b", b"a@b")
    assert not query.concerns(b"a@b", b"c@b")


def test_equal_plans(tmp_path: Path) -> None:
    """The same configuration gives equal plans, so that a reload keeps the caches; another scheme does not."""
    toml = '[dict.auth]\ndovecot_sql = "dovecot-sql.conf.ext"\n'
    assert plan(tmp_path, toml) == plan(tmp_path, toml)
    assert plan(tmp_path, toml) != plan(tmp_path, toml, SQL.replace("SHA512-CRYPT", "CRYPT"))


def test_plain_password_is_refused(tmp_path: Path) -> None:
    """A query that needs the plain password is a fault at its line, with the reason and without the file's secrets."""
    with pytest.raises(ConfigError) as caught:
        plan(
            tmp_path,
            '[dict.auth]\ndovecot_sql = "dovecot-sql.conf.ext"\n',
            SQL.replace("enable%Ls%Lc=1", "pw=MD5('%w')"),
        )
    text = str(caught.value)
    assert (
        "dovecot-sql.conf.ext: line 4: password_query cannot be used: %w is the password in plain"
        in text
    )
    assert "geheim" not in text


def test_faults_of_tables_are_named(tmp_path: Path) -> None:
    """A query of a table that cannot be expanded is a fault at its key."""
    with pytest.raises(
        ConfigError, match=r"table\.p\.dovecot_query: %\{nosuch\} is not a variable"
    ):
        plan(
            tmp_path,
            f"{MAIL}[table.p]\ndatabase = 'mail'\ndovecot_query = \"SELECT "
            f"'%{{nosuch}}'\"\n[dict.auth]\npassdb = 'p'\n",
        )
