"""`check` on a real server: what queries and routines do besides answering, views, and passwords that must be plain."""

from __future__ import annotations

import json
from dataclasses import dataclass

import pytest

from support.daemon import Daemon
from support.mariadb import MariaDB, private_directory

pytestmark = pytest.mark.servers

DATABASE = "check_of_queries"
SCHEMA = """
CREATE TABLE asked (address varchar(200), at timestamp);
CREATE TABLE alias (address varchar(200) PRIMARY KEY, goto varchar(200));
INSERT INTO alias VALUES ('a@example.com', 'b@example.com');
CREATE TABLE relayhosts (hostname varchar(200) PRIMARY KEY, username varchar(100), password varchar(100));
INSERT INTO relayhosts VALUES ('smtp.relay.example', 'me', 'plain secret');
CREATE TABLE mailbox (username varchar(200) PRIMARY KEY, password varchar(200), rule varchar(200));
INSERT INTO mailbox VALUES ('a@example.com', 'plain secret', 'Trash:storage=+10%');
CREATE TABLE hashed (username varchar(200) PRIMARY KEY, password varchar(200), bypass varchar(9));
INSERT INTO hashed VALUES ('a@example.com', 'z4PhNX7vuL3xVChQ1m2AB9Yg5AULVxXcg/SpIdNs6c5H0NE8XYXysP+DGNKHfuwvY7kxvUdBeoGlODJ6+SfaPg==', 'yes'),
  ('b@example.com', '{PLAIN}secret', 'yes'), ('c@example.com', '*94BDCEBE19083CE2A1F959FD02F964C7AF4CFC29', 'yes');
CREATE TABLE prefixed (username varchar(200) PRIMARY KEY, password varchar(200));
INSERT INTO prefixed VALUES ('a@example.com', 'W6ph5Mm5Pz8GgiULbPgzG37mj9g=');
CREATE SQL SECURITY DEFINER VIEW seen AS SELECT address, goto FROM alias;
CREATE TABLE gone (address varchar(200), goto varchar(200), password varchar(200));
CREATE VIEW broken AS SELECT address, goto, password FROM gone;
DROP TABLE gone;
CREATE PROCEDURE noting(IN a varchar(200)) MODIFIES SQL DATA BEGIN INSERT INTO asked VALUES (a, NOW()); SELECT a; END;
CREATE PROCEDURE hidden(IN a varchar(200)) BEGIN INSERT INTO asked VALUES (a, NOW()); SELECT a; END;
CREATE PROCEDURE reading(IN a varchar(200)) READS SQL DATA SELECT goto FROM alias WHERE address = a;
CREATE PROCEDURE calling(IN a varchar(200)) CALL hidden(a);
CREATE FUNCTION tidy(a varchar(200)) RETURNS varchar(200) DETERMINISTIC NO SQL RETURN LOWER(a);
CREATE FUNCTION moody(a varchar(200)) RETURNS varchar(200) NO SQL RETURN CONCAT(a, RAND());
"""
QUERIES = {
    "broken": "SELECT goto FROM broken WHERE address = '%s'",
    "relay": "SELECT CONCAT(username, ':', password) FROM relayhosts WHERE hostname = '%s'",
    "view": "SELECT goto FROM seen WHERE address = '%s'",
    "second_view": "SELECT goto FROM seen WHERE address = '%s' LIMIT 1",
    "noting": "CALL noting('%s')",
    "hidden": "CALL hidden('%s')",
    "reading": "CALL reading('%s')",
    "calling": "CALL calling('%s')",
    "tidy": "SELECT goto FROM alias WHERE address = tidy('%s')",
    "moody": "SELECT moody(goto) FROM alias WHERE address = '%s'",
    "locking": "SELECT goto FROM alias WHERE address = '%s' FOR UPDATE",
    "counting": "SELECT @n := @n + 1 FROM alias WHERE address = '%s'",
    "quoted": "SELECT 'for update @a := 1' FROM alias WHERE address = '%s'",
    "unknown": "SELECT nothing FROM alias WHERE address = '%s'",
}


@dataclass(frozen=True)
class Checked:
    """The findings of `check`, with an account that sees bodies of routines and with one that does not."""

    usual: list[dict[str, str]]
    seeing: list[dict[str, str]]


@pytest.fixture(scope="module")
def checked(mariadb: MariaDB) -> Checked:
    """The findings for all queries."""
    mariadb.run_sql(
        f"DROP DATABASE IF EXISTS {DATABASE}; CREATE DATABASE {DATABASE} CHARACTER SET utf8mb4"
    )
    connection = mariadb.connect(DATABASE)
    with connection, connection.cursor() as cursor:
        for statement in SCHEMA.split(";\n"):
            if statement.strip():
                cursor.execute(statement)
    mariadb.grant(DATABASE, "geheim", DATABASE)
    mariadb.grant(f"{DATABASE}_all", "geheim", DATABASE)
    for host in ("localhost", "127.0.0.1"):
        mariadb.run_sql(f"GRANT SELECT ON mysql.proc TO '{DATABASE}_all'@'{host}'")
    return Checked(findings(mariadb, DATABASE), findings(mariadb, f"{DATABASE}_all"))


def findings(mariadb: MariaDB, user: str) -> list[dict[str, str]]:
    """Return what `check` finds when it logs in as this user."""
    found: list[dict[str, str]] = json.loads(output(mariadb, user, {}, "--format", "json"))
    return found


def output(mariadb: MariaDB, user: str, environment: dict[str, str], *options: str) -> str:
    """Return what `check` prints."""
    tables = "".join(
        f"[table.{name}]\ndatabase = 'mail'\nquery = {json.dumps(query)}\n"
        for name, query in QUERIES.items()
    )
    with private_directory() as directory:
        config = (
            f'[listen]\nsocketmap = ["unix:{directory}/socketmap"]\n'
            f'lookup_http = "unix:{directory}/lookup"\n'
            f"[database.mail]\ndriver = 'mysql'\nhosts = ['unix:{mariadb.socket}']\n"
            f"user = '{user}'\npassword = 'geheim'\ndbname = '{DATABASE}'\n{tables}"
            f"[map.m]\ntables = {json.dumps(list(QUERIES))}\nsearch = 'exact'\n"
            "[table.users]\ndatabase = 'mail'\n"
            "dovecot_query = \"SELECT rule AS quota_rule2 FROM mailbox WHERE username = '%u'\"\n"
            "[dict.auth]\nuserdb = 'users'\n"
            "[table.hashes]\ndatabase = 'mail'\n"
            "dovecot_query = \"SELECT password FROM hashed WHERE username = '%u'\"\n"
            "[dict.hashes]\npassdb = 'hashes'\ndefault_pass_scheme = 'SHA512'\n"
            "[table.prefixes]\ndatabase = 'mail'\ndovecot_query = \"SELECT "
            "CONCAT('{SHA}', password) AS password FROM prefixed WHERE username = '%u'\"\n"
            "[dict.prefixes]\npassdb = 'prefixes'\ndefault_pass_scheme = 'PLAIN'\n"
        )
        daemon = Daemon(directory, config, environment=environment)
        return daemon.command("check", "--no-postfix", *options).stdout


def of(found: list[dict[str, str]], table: str) -> dict[str, str]:
    """Return the levels of a table's findings by their code."""
    return {
        finding["code"]: finding["level"]
        for finding in found
        if finding["where"] == f"table {table}"
    }


def test_views_are_one_note(checked: Checked) -> None:
    """A view whose plan the account may not see is one note for the database, and the queries behind it are checked."""
    notes = [finding for finding in checked.usual if finding["code"] == "view_plan"]
    assert [finding["level"] for finding in notes] == ["note"]
    assert "the plan of view, second_view cannot be looked at" in notes[0]["problem"]
    assert notes[0]["remedy"].startswith(f"GRANT SELECT, SHOW VIEW ON `{DATABASE}`.* TO ")
    assert "unknown_column" in of(checked.usual, "unknown")


def test_broken_view_is_one_finding(checked: Checked) -> None:
    """A view whose table is gone is a fault of its query, and everything behind it is looked at."""
    assert of(checked.usual, "broken") == {"query_refused": "fault"}
    assert not [
        finding
        for finding in checked.usual
        if finding["where"] == "database mail" and finding["code"] == "database"
    ]


def test_relay_passwords_stay_plain(checked: Checked) -> None:
    """A password that a map hands to Postfix must be plain; one of a mailbox in the same database is a fault."""
    assert plain_passwords(checked) - {"hashed.password"} == {"mailbox.password"}


def test_hashes_without_their_scheme_are_no_plain_passwords(checked: Checked) -> None:
    """What Dovecot takes for a hash, by its default scheme or by the query's prefix, is not to be hashed again."""
    assert plain_passwords(checked) - {"mailbox.password"} == {"hashed.password"}
    assert "hashed.password holds plain passwords, 1 of them" in str(checked.usual)


def plain_passwords(checked: Checked) -> set[str]:
    """Return the columns that are said to hold plain passwords."""
    return {
        finding["problem"].partition(" ")[0]
        for finding in checked.usual
        if finding["code"] == "plain_passwords"
    }


def test_procedures(checked: Checked) -> None:
    """A procedure that writes is a fault, one that reads is nothing, and one that cannot be seen is a warning."""
    assert of(checked.usual, "noting") == {"writes": "fault"}
    assert of(checked.usual, "hidden") == {"unseen_routine": "warning"}
    assert of(checked.usual, "reading") == {}
    assert of(checked.seeing, "noting") == {"writes": "fault"}
    assert of(checked.seeing, "hidden") == {"writes": "fault"}
    assert of(checked.seeing, "calling") == {"writes": "fault"}
    assert of(checked.seeing, "reading") == {}


def test_functions(checked: Checked) -> None:
    """A function that is not deterministic is a warning, one that is deterministic is nothing."""
    assert of(checked.seeing, "moody") == {"not_deterministic": "warning"}
    assert of(checked.usual, "tidy") == {}


def test_locks_and_variables(checked: Checked) -> None:
    """FOR UPDATE and user variables are warnings; in a string they are nothing."""
    assert of(checked.usual, "locking")["locks"] == "warning"
    assert of(checked.usual, "counting") == {"user_variable": "warning"}
    assert of(checked.usual, "quoted") == {}


def test_rows_of_23(checked: Checked) -> None:
    """A row with a user field that Dovecot 2.4 has no equal for is found before its user logs in."""
    assert of(checked.usual, "auth.userdb")["field_of_23"] == "fault"


def test_remedies_can_be_pasted(mariadb: MariaDB) -> None:
    """Each remedy is one whole line of the output, on a narrow terminal and in a pipe."""
    found = findings(mariadb, DATABASE)
    # That names the folder
    found = [finding for finding in found if finding["code"] != "readable_secret"]
    remedies = {line for finding in found for line in finding["remedy"].splitlines()}
    assert "ALTER PROCEDURE `check_of_queries`.`hidden` READS SQL DATA;" in remedies
    for columns in ("40", "80"):
        printed = output(mariadb, DATABASE, {"COLUMNS": columns}).splitlines()
        assert remedies <= {line.strip() for line in printed}
