"""verify with real tables: keys that exist, in the forms that Postfix asks, and what it says when
it has proved nothing.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.installation import Installation
from support.mariadb import MariaDB, private_directory
from support.postfix import Postfix

pytestmark = pytest.mark.servers

DATABASE = "what_verify_proves"
SCHEMA = f"""
DROP DATABASE IF EXISTS {DATABASE}; CREATE DATABASE {DATABASE} CHARACTER SET utf8mb4; USE {DATABASE};
CREATE TABLE relay (hostname varchar(100) COLLATE utf8mb4_bin, login varchar(100));
INSERT INTO relay VALUES ('[smtp.relay.example]:587', 'encrypt');
CREATE TABLE client (network varchar(100), action varchar(100));
INSERT INTO client VALUES ('192.0.2', 'REJECT no'), ('2001:db8:1', 'REJECT no'), ('.example.com', 'OK');
CREATE TABLE route (pattern varchar(100), nexthop varchar(100));
INSERT INTO route VALUES ('example.org', 'smtp:[a.example]:26');
CREATE TABLE nobody (address varchar(100), goto varchar(100));
CREATE TABLE alias (address varchar(100), goto varchar(100));
INSERT INTO alias VALUES ('a@example.com', 'b@example.com');
CREATE TABLE alias_domain (alias varchar(100), target varchar(100));
INSERT INTO alias_domain VALUES ('example.net', 'example.com');
CREATE TABLE word (pattern varbinary(100), action varchar(100));
INSERT INTO word VALUES ('VIAGRA', 'REJECT spam'), (x'E4F6', 'REJECT latin');
"""
QUERIES = {
    "relay": "SELECT login FROM relay WHERE hostname = '%s'",
    "client": "SELECT action FROM client WHERE network = '%s'",
    "route": "SELECT nexthop FROM route WHERE pattern = '%s'",
    "nobody": "SELECT goto FROM nobody WHERE address = '%s'",
    "alias": "SELECT goto FROM alias WHERE address = '%s'",
    "renamed": "SELECT goto FROM alias, alias_domain WHERE alias_domain.alias = '%d' "
    "AND alias.address = CONCAT('%u', '@', alias_domain.target)",
    "word": "SELECT action FROM word WHERE '%s' REGEXP BINARY pattern LIMIT 1",
}
MAIN_CF = """
smtp_tls_policy_maps = mysql:{folder}/relay.cf
smtpd_client_restrictions = check_client_access mysql:{folder}/client.cf
transport_maps = mysql:{folder}/route.cf
canonical_maps = mysql:{folder}/nobody.cf
virtual_alias_maps = mysql:{folder}/alias.cf
header_checks = mysql:{folder}/word.cf
recipient_canonical_maps = mysql:{folder}/renamed.cf
"""


@pytest.fixture(scope="module")
def imported(mariadb: MariaDB) -> Iterator[Installation]:
    """An installation with tables of several kinds, imported."""
    mariadb.run_sql(SCHEMA)
    mariadb.grant(DATABASE, "geheim", DATABASE)
    with private_directory() as folder:
        postfix = Postfix(folder, {})
        for name in QUERIES:
            write_cf(folder, mariadb, name)
        main_cf = postfix.config / "main.cf"
        main_cf.write_text(main_cf.read_text() + MAIN_CF.format(folder=folder))
        installation = Installation(DATABASE, mariadb, postfix, folder)
        done = installation.mailmapd(
            "import", "--postfix", str(postfix.config), "--output", str(folder / "mailmapd.toml")
        )
        assert done.returncode == 0, done.stderr
        yield installation


def write_cf(folder: Path, mariadb: MariaDB, name: str, password: str = "geheim") -> None:
    """Write the .cf file of a table."""
    (folder / f"{name}.cf").write_text(
        f"hosts = unix:{mariadb.socket}\nuser = {DATABASE}\npassword = {password}\n"
        f"dbname = {DATABASE}\nquery = {QUERIES[name]}\n"
    )


def verify(imported: Installation, config: Path) -> subprocess.CompletedProcess[str]:
    """Run verify."""
    return imported.mailmapd(
        "verify", "--config", str(config), "--postfix", str(imported.postfix.config)
    )


@pytest.fixture(scope="module")
def verified(imported: Installation) -> subprocess.CompletedProcess[str]:
    """Return what verify says of the configuration as it was imported."""
    return verify(imported, imported.folder / "mailmapd.toml")


def found(output: str) -> dict[str, int]:
    """Return how many keys of each map were found."""
    rows = re.findall(r"^(\w+) +\d+ +(\d+) +\w+", output, re.MULTILINE)
    return {name: int(number) for name, number in rows}


def test_keys_that_exist(verified: subprocess.CompletedProcess[str]) -> None:
    """Nexthops with brackets and ports, clients in a network, and users of a domain under its other name are found."""
    assert verified.returncode == 0, verified.stdout + verified.stderr
    numbers = found(verified.stdout)
    assert numbers["recipient_canonical_maps"] >= 1
    assert numbers["smtp_tls_policy_maps"] >= 1
    assert numbers["check_client_access"] >= 5
    assert numbers["transport_maps"] >= 2
    assert " 0 differences" in verified.stdout.splitlines()[-1]


def test_nothing_found_proves_nothing(verified: subprocess.CompletedProcess[str]) -> None:
    """A map of which no key was found on either side is named as what it is, in its row and at the end."""
    done = verified
    row = next(line for line in done.stdout.splitlines() if line.startswith("canonical_maps"))
    assert "proves nothing" in row
    assert "Proves nothing, because no key was found: canonical_maps." in done.stdout
    assert "proves nothing" not in done.stdout.replace(row, "")


def test_existing_keys_find_a_difference(imported: Installation) -> None:
    """A network that only the new table lacks is found, because its row's key is asked."""
    text = (imported.folder / "mailmapd.toml").read_text()
    other = imported.folder / "other.toml"
    other.write_text(text.replace("network = '%s'", "network = '%s' AND network <> '192.0.2'"))
    done = verify(imported, other)
    assert done.returncode == 1
    assert (
        "check_client_access: 192.0.2.7\n  Postfix:  REJECT no\n  mailmapd: not found"
        in done.stdout
    )


def test_old_side_that_fails(imported: Installation) -> None:
    """A map whose old table cannot be asked is not compared, which is no success; the others are."""
    write_cf(imported.folder, imported.server, "alias", password="wrong")
    try:
        done = verify(imported, imported.folder / "mailmapd.toml")
    finally:
        write_cf(imported.folder, imported.server, "alias")
    assert done.returncode == 1
    assert "0 differences" not in done.stdout
    last = done.stdout.splitlines()[-1]
    assert last.startswith(
        "Not compared, because the old map fails: virtual_alias_maps; no differences in the others;"
    )
    assert found(done.stdout)["smtp_tls_policy_maps"] >= 1


def test_keys_are_folded_as_the_parameter_folds_them(
    imported: Installation, verified: subprocess.CompletedProcess[str]
) -> None:
    """A table that Postfix asks for keys as they are is asked so, with its capitals and bytes that are no UTF-8."""
    assert found(verified.stdout)["header_checks"] >= 4
    config = imported.folder / "mailmapd.toml"
    other = imported.folder / "folding.toml"
    other.write_text(re.sub(r"(?m)^fold = .*\n", "", config.read_text()))
    done = verify(imported, other)
    assert done.returncode == 1
    assert "header_checks: VIAGRA\n  Postfix:  REJECT spam\n  mailmapd: not found" in done.stdout


def test_a_map_that_the_configuration_lacks(imported: Installation) -> None:
    """A table of main.cf that mailmapd.toml does not serve is named: nothing is known of it."""
    text = (imported.folder / "mailmapd.toml").read_text()
    other = imported.folder / "fewer.toml"
    other.write_text(re.sub(r"(?ms)^\[map\.transport_maps\].*?(?=^\[|^#|\Z)", "", text))
    done = verify(imported, other)
    assert f"Not compared, because {other} has no such map: transport_maps.\n" in done.stdout
    assert f" --output {other} --force\n" in done.stdout
