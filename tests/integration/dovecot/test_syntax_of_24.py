"""Dovecot 2.4's own SQL settings: what its `doveconf -n` prints is imported, and asks what 2.4 asks.

In the Debian 13 system.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

import pytest

from mailmapd.config.loader import parse_config
from mailmapd.databases.mysql.database import MysqlDatabase
from mailmapd.databases.settings import MysqlSettings
from mailmapd.errors import ConfigError
from mailmapd.formats.doveconf import parse_auth_sections
from mailmapd.importers.dovecot.sql_import import import_auth_sections
from mailmapd.importers.draft import Draft
from mailmapd.importers.toml_writer import render
from mailmapd.plan.assembly import Plan, plan
from mailmapd.plan.dict_plan import PlannedTable
from support.debian13 import Debian13
from support.mariadb import MariaDB, private_directory
from support.process import listens

pytestmark = [
    pytest.mark.servers,
    pytest.mark.root,
    pytest.mark.timeout(1800),
]  # the first test may have to download a system

DATABASE = "syntax_of_24"
MAIN = "/etc/dovecot-sql24/dovecot.conf"
CONFIG = """\
dovecot_config_version = 2.4.1
dovecot_storage_version = 2.4.1
base_dir = /run/dovecot-sql24
log_path = /var/log/dovecot-sql24.log
protocols =
ssl = no
auth_username_chars =
auth_username_format =
auth_allow_cleartext = yes
auth_failure_delay = 0
first_valid_uid = 0
sql_driver = mysql
mysql 127.0.0.1 {
  port = PORT
  user = DATABASE
  password = "ge#heim x"
  dbname = DATABASE
}
passdb sql {
  default_password_scheme = PLAIN
  query = SELECT password \\
    FROM mailbox WHERE username = '%{user}' AND service = '%{protocol}'
}
passdb keep-out {
  driver = sql
  deny = yes
  passdb_sql_query = SELECT 1 FROM mailbox WHERE username = '%{user | username | lower}#'
}
userdb sql {
  query = SELECT home, 5000 AS uid, 5000 AS gid FROM mailbox WHERE username = '%{user}' TRIED
  iterate_query = SELECT username AS user FROM mailbox
}
protocol lmtp {
  userdb sql2 {
    driver = sql
    userdb_sql_query = SELECT 1 FROM mailbox WHERE username = '%{user}'
  }
}
"""
TEXTS = (
    *("%{user | username}", "%{user|domain|upper}", "%{user | lower}", "%{user | truncate(3)}"),
    *("%{user | substr(0, 1)}", "%{user | reverse | upper}", "%{user | domain | lower}"),
    *("%{protocol}", "%{remote_ip}", "%{local_port}", "100%", "%%", "%u", "%%{x", "a%%b%dc"),
)
USERS = ("First.Last@Sub.Example.ORG", "plain", "a@b@c", "x@", "@x", "o'h\"a\\ra@x")
ABOUT = {"service": b"imap", "rip": b"2001:db8::2", "lport": b"143"}


@dataclass(frozen=True)
class Dovecot24:
    """The running Dovecot, which asks the database itself, and the plan of what import has made of its settings."""

    system: Debian13
    database: MariaDB
    plan: Plan

    def asked(self, *words: str) -> list[str]:
        """Return the queries that a command of doveadm makes Dovecot send."""
        self.database.log_queries()
        self.system.run("doveadm", "-c", MAIN, *words, check=False)
        return self._logged()

    async def asked_by_us(self, table: PlannedTable | None, user: str) -> list[str]:
        """Return the query that mailmapd sends for a user."""
        assert table is not None
        settings = self.plan.databases[table.database]
        assert isinstance(settings, MysqlSettings)
        database = MysqlDatabase("mail", settings)
        self.database.log_queries()
        key = table.definition.query.sql_key({**ABOUT, "user": user.encode()})
        assert key is not None
        try:
            await database.fetch(table.definition.statement(key))
        finally:
            await database.close()
        return self._logged()

    def _logged(self) -> list[str]:
        queries = self.database.logged_queries(DATABASE)
        return [query for query in queries if query.startswith("SELECT") and "mailbox" in query]


@pytest.fixture(scope="module")
def dovecot(mariadb: MariaDB) -> Iterator[Dovecot24]:
    """Dovecot 2.4 with the settings above, and their import."""
    mariadb.run_sql(
        f"DROP DATABASE IF EXISTS {DATABASE}; CREATE DATABASE {DATABASE} CHARACTER SET utf8mb4;"
        f"CREATE TABLE {DATABASE}.mailbox (username varchar(200), password varchar(200), "
        "service varchar(20), home varchar(200));"
    )
    mariadb.grant(DATABASE, "ge#heim x", DATABASE)
    tried = " AND ".join(f"'{number}{text}' <> ''" for number, text in enumerate(TEXTS))
    text = CONFIG.replace("DATABASE", DATABASE).replace("TRIED", f"AND {tried}")
    with ExitStack() as stack:
        directory = stack.enter_context(private_directory())
        system = stack.enter_context(Debian13())
        system.write(MAIN, text.replace("PORT", str(mariadb.port)))
        process = system.start(["dovecot", "-F", "-c", MAIN], directory / "dovecot.out")
        stack.callback(process.stop)
        process.wait_ready(
            partial(listens, system.path("run/dovecot-sql24/auth-userdb")), "Dovecot 2.4"
        )
        draft = Draft()
        printed = system.run("doveconf", "-n", "-P", "-c", MAIN).stdout
        import_auth_sections(draft, list(parse_auth_sections(printed)))
        config = parse_config(render(draft), str(directory / "mailmapd.toml"))
        (directory / f"{DATABASE}-imported-password").write_text(draft.databases[0].password)
        yield Dovecot24(system, mariadb, plan(config))
    mariadb.log_queries(False)


def test_import(dovecot: Dovecot24) -> None:
    """What doveconf of 2.4 prints becomes a dict with all three queries, and its password arrives."""
    auth = dovecot.plan.dicts.dicts["auth"]
    assert [table.name for table in auth.tables] == ["auth.passdb", "auth.userdb", "auth.iterate"]
    assert auth.default_scheme == "PLAIN"


def test_values_that_dovecot_fills_in(dovecot: Dovecot24) -> None:
    """What doveconf leaves to Dovecot itself is a line of the report, and no file holds it as a password."""
    other = MAIN.replace("dovecot.conf", "other.conf")
    text = dovecot.system.path(MAIN).read_text()
    for value in ("$ENV:DBPASS", "%{env:DBPASS}", "</etc/nonexistent"):
        dovecot.system.write(other, text.replace('"ge#heim x"', value))
        printed = dovecot.system.run("doveconf", "-n", "-P", "-c", other).stdout
        assert f"password = {value}\n" in printed
        with pytest.raises(ConfigError) as caught:
            import_auth_sections(Draft(), list(parse_auth_sections(printed)))
        assert {fault.problem for fault in caught.value.faults} == {
            f"password holds {value}, which Dovecot alone can read"
        }


@pytest.mark.parametrize("user", USERS)
async def test_user_query(dovecot: Dovecot24, user: str) -> None:
    """What mailmapd sends is, byte for byte, the user query that Dovecot 2.4 sends for the user."""
    about = ("-x", "protocol=imap", "-x", "rip=2001:db8::2", "-x", "lport=143")
    theirs = dovecot.asked("user", *about, user)
    assert theirs
    assert await dovecot.asked_by_us(dovecot.plan.dicts.dicts["auth"].userdb, user) == theirs


@pytest.mark.parametrize("user", USERS[:2])
async def test_password_query(dovecot: Dovecot24, user: str) -> None:
    """What mailmapd sends is the password query that Dovecot 2.4 sends behind that of the passdb that denies."""
    theirs = dovecot.asked("auth", "test", "-x", "service=imap", user, "secret")
    ours = await dovecot.asked_by_us(dovecot.plan.dicts.dicts["auth"].passdb, user)
    assert ours == [query for query in theirs if "password" in query]
    assert ours
