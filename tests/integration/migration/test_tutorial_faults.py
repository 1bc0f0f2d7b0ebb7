"""The faults of a widespread tutorial, which `check` must name on an installation that follows it to the letter."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from support.installation import Installation
from support.mariadb import MariaDB
from support.postfix import Postfix
from support.stacks import tutorial

pytestmark = pytest.mark.servers

ROOT = Path(__file__).parents[3]

QUERIES = {
    "mysql-mailuser": "SELECT 1 FROM email_user WHERE user_mail='%s'",
    "mysql-maildomain": "SELECT 1 FROM email_user WHERE mail_domain='%s'",
    "mysql-mailaliase": "SELECT mail_account FROM email_user WHERE mail_account='%s'\n#query = "
    "SELECT destination FROM email_aliase",
    "mysql-mailboxdir": "SELECT mail_dir FROM email_user WHERE user_mail='%s'",
}

MAIN_CF = """
virtual_mailbox_base = {base}
virtual_mailbox_domains = mysql:{sql}/mysql-maildomain.cf
virtual_mailbox_maps = mysql:{sql}/mysql-mailuser.cf
virtual_alias_maps = mysql:{sql}/mysql-mailaliase.cf
virtual_mailbox_maps = mysql:{sql}/mysql-mailboxdir.cf
"""


@pytest.fixture
def findings(
    make_mariadb: Callable[..., MariaDB], short_path: Path
) -> dict[tuple[str, str], dict[str, str]]:
    """Follow the tutorial, import it, and return what `check` finds by code and place."""
    server = make_mariadb()
    server.run_sql("CREATE DATABASE virtual_email CHARACTER SET utf8mb4 COLLATE utf8mb4_bin")
    server.run_sql(tutorial.SCHEMA, database="virtual_email")
    server.run_sql(
        "INSERT INTO email_user VALUES ('alice', 'alice@example.com', 'secret', 'example.com', 'example.com/alice/')",
        database="virtual_email",
    )
    base, sql = short_path / "vmail", short_path / "sql"
    base.mkdir()
    base.chmod(0o777)
    sql.mkdir()
    for name, query in QUERIES.items():
        text = f"user = root\npassword =\nhosts = unix:{server.socket}\ndbname = virtual_email\nquery = {query}\n"
        (sql / f"{name}.cf").write_text(text)
    postfix = Postfix(short_path, {})
    main_cf = postfix.config / "main.cf"
    main_cf.write_text(main_cf.read_text() + MAIN_CF.format(base=base, sql=sql))
    installation = Installation("root", server, postfix, short_path)
    config = short_path / "m" / "mailmapd.toml"
    imported = installation.mailmapd(
        "import", "--keep-cf", "--postfix", str(postfix.config), "--output", str(config)
    )
    assert imported.returncode == 0, imported.stderr
    checked = installation.mailmapd(
        "check", "--config", str(config), "--postfix", str(postfix.config), "--format", "json"
    )
    assert checked.returncode == 1, checked.stderr
    return {(finding["code"], finding["where"]): finding for finding in json.loads(checked.stdout)}


def test_every_fault_of_the_tutorial_is_named(
    findings: dict[tuple[str, str], dict[str, str]],
) -> None:
    """Each of the tutorial's faults is a finding with its remedy."""
    by_code = {code: finding for (code, _), finding in findings.items()}
    assert by_code["unknown_column"]["problem"] == 'there is no column "user_mail" in email_user'
    assert (
        "did you mean mail_account, which holds addresses?" in by_code["unknown_column"]["remedy"]
    )
    assert (
        "CREATE INDEX `mail_account_lookup` ON `email_user` (`mail_account`);"
        in by_code["unknown_column"]["remedy"]
    )
    scans = {
        finding["remedy"] for (code, _), finding in findings.items() if code == "missing_index"
    }
    assert "CREATE INDEX `mail_domain_lookup` ON `email_user` (`mail_domain`);" in scans
    assert "virtual_mailbox_maps is set more than once" in by_code["set_twice"]["problem"]
    assert (
        "virtual_transport is not set, so virtual(8) delivers"
        in by_code["virtual_agent"]["problem"]
    )
    assert "maps each address to itself" in by_code["identity_alias"]["problem"]
    assert "logs in as root" in by_code["root_account"]["problem"]
    assert (
        by_code["one_name_one_domain"]["remedy"]
        == "ALTER TABLE `email_user` DROP PRIMARY KEY, ADD UNIQUE KEY (`mail_domain`, `user_no`);"
    )
    assert "mode 777" in by_code["open_folder"]["problem"]
    assert "holds plain passwords" in by_code["plain_passwords"]["problem"]
    assert "without a password" in by_code["empty_password"]["problem"]
    assert "everybody can read it" in by_code["readable_secret"]["problem"]


@pytest.mark.parametrize("page", ["migrate.md", "migrate.zh-CN.md"])
def test_guide_has_the_words_of_check(
    findings: dict[tuple[str, str], dict[str, str]], short_path: Path, page: str
) -> None:
    """What the guide says that `check` says is what it says, word for word."""
    said = "\n".join(f"{finding['problem']}\n{finding['remedy']}" for finding in findings.values())
    lines = (ROOT / "docs" / page).read_text().splitlines()
    start = next(at for at, line in enumerate(lines) if re.match(r"\| .*check.* \| ", line))
    quoted = [line.split(" | ")[0].removeprefix("| ") for line in lines[start + 2 :]]
    quoted = quoted[: quoted.index("")]
    assert len(quoted) > 5
    for text in quoted:
        for part in text.replace("/home/vmail", f"{short_path}/vmail").split("; "):
            assert part in said
