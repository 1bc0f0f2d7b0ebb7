"""Accounts, plans, names and files: from what a server or a file system says to findings."""

from __future__ import annotations

from pathlib import Path

import pytest

from mailmapd.check.accounts import login_findings
from mailmapd.check.database_schema import Index, TableShape, quoted, quoted_text
from mailmapd.check.explain import PlanRow, scan_findings
from mailmapd.check.postfix_traps import postfix_findings
from mailmapd.check.unknown_names import schema_finding
from mailmapd.config.loader import parse_config
from mailmapd.config.schema import Config
from mailmapd.databases.settings import ChangesSettings, MysqlSettings
from mailmapd.errors import SchemaError

USER = "GRANT USAGE ON *.* TO `mail`@`localhost` IDENTIFIED BY PASSWORD '*X'"


@pytest.mark.parametrize(
    ("grants", "excess"),
    [
        ([USER, "GRANT SELECT, EXECUTE, SHOW VIEW ON `mail`.* TO `mail`@`localhost`"], None),
        ([USER, "GRANT SELECT (a, b) ON `mail`.`t` TO `mail`@`localhost`"], None),
        (["GRANT ALL PRIVILEGES ON *.* TO `mail`@`%` WITH GRANT OPTION"], "ALL PRIVILEGES"),
        (
            [USER, "GRANT SELECT, INSERT, UPDATE (a, b) ON `mail`.* TO `mail`@`localhost`"],
            "INSERT, UPDATE",
        ),
    ],
)
def test_more_than_select_is_named(grants: list[str], excess: str | None) -> None:
    """Privileges beyond reading are listed; reading, procedures and views are not."""
    settings = MysqlSettings(user="mail", password="x", dbname="mail")
    found = list(login_findings("mail", settings, grants, ChangesSettings()))
    assert [finding.problem.partition(": ")[2] for finding in found] == (
        [] if excess is None else [excess]
    )


def test_root_and_empty_passwords() -> None:
    """The database's root and a login without a password are findings of their own."""
    found = login_findings(
        "mail",
        MysqlSettings(user="root", dbname="mail"),
        ["GRANT ALL PRIVILEGES ON *.* TO `root`@`localhost`"],
        ChangesSettings(),
    )
    assert [finding.code for finding in found] == ["root_account", "empty_password"]


def shape(name: str, *indexed: str, **columns: str) -> TableShape:
    """Return a table with text columns and single-column indexes."""
    return TableShape(
        name, columns, {column: Index(column, (column,), unique=False) for column in indexed}
    )


SCHEMA = {
    "users": shape(
        "users", "id", id="int", email="varchar", domain="varchar", active="tinyint", notes="text"
    ),
    "aliases": shape("aliases", "source", source="varchar", target="varchar"),
}


def scan(query: str, table: str, *, rows: int = 1000, possible: str = "") -> list[str]:
    """Return the remedies for a table that is read as a whole."""
    return [
        finding.remedy
        for finding in scan_findings(
            "t", query, [PlanRow(table, "ALL", possible, "", rows, "")], SCHEMA
        )
    ]


def test_the_index_is_on_the_column_that_is_compared() -> None:
    """CREATE INDEX names the compared column, also through an alias, and never one that is indexed already."""
    assert scan("SELECT 1 FROM users WHERE active = 1 AND email = '%s'", "users") == [
        "CREATE INDEX `email_lookup` ON `users` (`email`);"
    ]
    assert scan("SELECT 1 FROM users AS u WHERE u.domain = '%d'", "u") == [
        "CREATE INDEX `domain_lookup` ON `users` (`domain`);"
    ]
    assert scan("SELECT 1 FROM users WHERE notes = '%s'", "users") == [
        "CREATE INDEX `notes_lookup` ON `users` (`notes`(64));"
    ]
    joined = "SELECT u.id FROM aliases a JOIN users u ON u.email = a.target WHERE a.source = '%s'"
    assert scan(joined, "u") == ["CREATE INDEX `email_lookup` ON `users` (`email`);"]
    assert scan("SELECT 1 FROM aliases WHERE source IN (SELECT 2)", "aliases") == [
        "aliases.source has an index that this form of query cannot use; write it as a join"
    ]


def test_names_that_need_quotes() -> None:
    """A statement to be pasted has its names in quotes: they may be reserved words, or hold anything."""
    odd = shape("order", "x", group="varchar")
    found = scan_findings(
        "t",
        "SELECT 1 FROM `order` WHERE `group` = '%s'",
        [PlanRow("order", "ALL", "", "", 1000, "")],
        {"order": odd},
    )
    [finding] = found
    assert finding.remedy == "CREATE INDEX `group_lookup` ON `order` (`group`);"
    assert quoted("a`b-c") == "`a``b-c`"
    assert quoted_text("it's\\") == "'it''s\\\\'"
    name = "c" * 64
    long = shape("t", "x", **{name: "varchar"}).index_on(name)
    assert long.startswith(f"CREATE INDEX `{'c' * 57}_lookup` ON ")


def test_small_tables_with_an_index_are_fine() -> None:
    """A server that reads a small table because that is quickest is no finding."""
    assert (
        scan("SELECT 1 FROM aliases WHERE source = '%s'", "aliases", rows=3, possible="source")
        == []
    )


def test_unknown_names_come_with_the_nearest() -> None:
    """An unknown column is told with the columns that resemble it, or hold addresses.

    An unknown table with the existing ones.
    """

    def remedy(text: str, query: str, addresses: tuple[str, ...] = ()) -> str:
        return schema_finding("t", query, SchemaError(text), SCHEMA, addresses).remedy

    assert (
        remedy("Unknown column 'emial' in 'WHERE'", "SELECT 1 FROM users WHERE emial = '%s'")
        == "did you mean email?"
    )
    assert "email, which holds addresses?" in remedy(
        "Unknown column 'u.login' in 'WHERE'",
        "SELECT 1 FROM users u WHERE u.login = '%s'",
        ("email",),
    )
    assert (
        remedy("Table 'mail.alias' doesn't exist", "SELECT 1 FROM alias WHERE a = '%s'")
        == "did you mean aliases?"
    )


CONFIG = """
[listen]
socketmap = ["unix:/nowhere/at/all/socketmap"]
[database.mail]
driver = "mysql"
password_file = "secret"
[table.a]
database = "mail"
query = "SELECT 1 FROM x WHERE a = '%s'"
[map.virtual_alias_maps]
tables = ["a"]
search = "address"
propagate_unmatched_extensions = true
local_domains = ["mx.example.net"]
[map.virtual_mailbox_maps]
tables = ["a"]
[map.check_client_access]
tables = ["a"]
search = "access"
parent_domain_matches_subdomains = true
[map.transport_maps]
tables = ["a"]
search = "transport"
recipient_delimiter = "-"
[map.relay_domains]
tables = ["a"]
search = "domain"
"""


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """A configuration in a folder of its own."""
    return parse_config(CONFIG, str(tmp_path / "mailmapd.toml"))


QUEUE = "/nowhere/at/all"
UNSPECIAL = "recipient_delimiter = -\nowner_request_special = no\nparent_domain_matches_subdomains = transport_maps\n"


def traps(config: Config, folder: Path, main_cf: str) -> list[str]:
    """Return what is wrong between a main.cf and the configuration."""
    (folder / "main.cf").write_text(
        f"queue_directory = {QUEUE}\nmyhostname = mx.example.net\nmydestination =\n"
        f"virtual_transport = lmtp:unix:x\n{main_cf.replace('unix:x:', 'unix:socketmap:')}"
    )
    (folder / "master.cf").write_text("virtual unix - n n - - virtual\n")
    return [finding.code for finding in postfix_findings(config, folder)]


def test_main_cf_and_the_configuration_agree(config: Config, tmp_path: Path) -> None:
    """A main.cf that asks the maps as they search is fine."""
    assert (
        traps(
            config,
            tmp_path,
            "virtual_alias_maps = socketmap:unix:socketmap:virtual_alias_maps\n",
        )
        == []
    )
    union = "virtual_mailbox_maps = unionmap:{texthash:/dev/null,socketmap:unix:x:virtual_mailbox_maps}\n"
    assert traps(config, tmp_path, union) == []
    table = "socketmap:unix:x:check_client_access"
    assert (
        traps(
            config, tmp_path, f"smtpd_client_restrictions = check_client_access {table}, {table}\n"
        )
        == []
    )


@pytest.mark.parametrize(
    ("main_cf", "expected"),
    [
        ("virtual_alias_maps = socketmap:unix:x:virtual_alias_map\n", ["unknown_map"]),
        ("virtual_mailbox_maps = socketmap:unix:x:virtual_mailbox_maps\n", ["search"]),
        (
            "recipient_delimiter = +\nvirtual_alias_maps = socketmap:unix:x:virtual_alias_maps\n",
            ["recipient_delimiter"],
        ),
        (
            "propagate_unmatched_extensions =\nvirtual_alias_maps = socketmap:unix:x:virtual_alias_maps\n",
            ["propagation"],
        ),
        (
            "mydestination = local.test\nvirtual_alias_maps = socketmap:unix:x:virtual_alias_maps\n",
            ["set_twice", "local_domains"],
        ),
        ("virtual_alias_maps = hash:/a\nvirtual_alias_maps = hash:/b\n", ["set_twice"]),
        ("smtpd_helo_restrictions = socketmap:unix:x:check_client_access\n", ["search"]),
        ("relay_domains = socketmap:unix:x:relay_domains\n", ["parent_domains"]),
        (
            f"{UNSPECIAL}transport_maps = socketmap:unix:x:transport_maps\n",
            ["owner_request_special", "parent_domains"],
        ),
        (
            (
                "virtual_transport = virtual\nvirtual_mailbox_maps = "
                "unionmap:{texthash:/x,socketmap:unix:x:virtual_mailbox_maps}\n"
            ),
            ["virtual_agent"],
        ),
    ],
)
def test_every_disagreement_is_named(
    config: Config, tmp_path: Path, main_cf: str, expected: list[str]
) -> None:
    """Unknown maps, other searches, other delimiters and what virtual(8) refuses are found."""
    assert traps(config, tmp_path, main_cf) == expected


def test_options_of_services_and_classes_are_looked_at(config: Config, tmp_path: Path) -> None:
    """Options of services, what they search otherwise, and restriction classes are compared as main.cf is."""
    (tmp_path / "main.cf").write_text(
        f"queue_directory = {QUEUE}\nmyhostname = mx.example.net\nmydestination =\n"
        "virtual_transport = lmtp:unix:x\nsmtpd_restriction_classes = strict\n"
        "strict = check_client_access { socketmap:unix:socketmap:check_client_acces, default_action = DUNNO }\n"
        "virtual_alias_maps = socketmap:unix:socketmap:virtual_alias_maps\n"
    )
    option = (
        "smtpd_sender_restrictions=check_sender_access,socketmap:unix:socketmap:check_sender_access"
    )
    (tmp_path / "master.cf").write_text(
        f"submission inet n - n - - smtpd -o {option} -o syslog_name=x\n"
        "smtp inet n - n - - smtpd -o recipient_delimiter=+\n"
        "relay unix - - n - - smtp -o recipient_delimiter=+\n"
    )
    found = list(postfix_findings(config, tmp_path))
    assert [(finding.where.removeprefix(f"{tmp_path}/"), finding.code) for finding in found] == [
        ("main.cf line 6: strict", "unknown_map"),
        ("master.cf line 1: submission/inet -o smtpd_sender_restrictions", "unknown_map"),
        ("master.cf line 2: smtp/inet -o virtual_alias_maps", "recipient_delimiter"),
    ]


@pytest.mark.parametrize(
    ("parameter", "fold", "table", "codes"),
    [
        ("header_checks", "", "", ["fold"]),
        ("header_checks", 'fold = "none"', "", []),
        ("header_checks", "", "fold = false", []),
        ("virtual_mailbox_domains", 'fold = "none"', "", ["fold"]),
        ("virtual_mailbox_domains", 'fold = "ascii"', "", []),
        ("tls_server_sni_maps", "", "", []),
    ],
)
def test_folding_that_differs_is_named(
    tmp_path: Path, parameter: str, fold: str, table: str, codes: list[str]
) -> None:
    """A map that folds keys which Postfix asks as they are finds other rows, and so does one that does not fold."""
    text = CONFIG.partition("[map.")[0].replace("[table.a]", f"[table.a]\n{table}")
    config = parse_config(f'{text}[map.m]\ntables = ["a"]\n{fold}\n', str(tmp_path / "m.toml"))
    assert traps(config, tmp_path, f"{parameter} = socketmap:unix:x:m\n") == codes
