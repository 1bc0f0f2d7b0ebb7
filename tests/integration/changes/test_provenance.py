"""What the queries of real installations read, by the catalog of a real server that the queries' own account asks."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mailmapd.changes.catalog import Catalog, read_catalog
from mailmapd.databases.mysql.database import MysqlDatabase
from mailmapd.databases.settings import MysqlSettings
from mailmapd.errors import DatabaseError
from mailmapd.provenance.analysis import analyse
from mailmapd.provenance.reading import CannotTell, Provenance
from mailmapd.template.mysql_table import MysqlTable
from mailmapd.template.statement import Statement
from support.mariadb import MariaDB, private_directory
from support.stacks import STACKS
from support.stacks.stack import PASSWORD, USER, Stack

pytestmark = [pytest.mark.servers]

GRADES = {
    "tutorial": """
        mysql-mailuser: email_user key
        mysql-maildomain: email_user key
        mysql-mailaliase: email_aliase key
        mysql-mailboxdir: email_user key
    """,
    "postfixadmin": """
        virtual_alias_maps: alias key
        virtual_alias_domain_maps: alias key, alias_domain key
        virtual_alias_domain_catchall_maps: alias reverse, alias_domain key
        virtual_domains_maps: domain key
        virtual_mailbox_maps: mailbox key
        virtual_alias_domain_mailbox_maps: alias_domain key, mailbox key
        relay_domains: domain key
        transport_maps: domain key
        login_maps: mailbox key
    """,
    "ispmail": """
        domains: virtual_domains key
        mailboxes: virtual_users key
        aliases: virtual_aliases key
        email2email: virtual_users key
    """,
    "iredmail": """
        transport_maps_user: domain key, mailbox key
        transport_maps_maillist: domain reverse, maillists key
        transport_maps_domain: domain key
        sender_dependent_relayhost_maps: sender_relayhost key
        sender_login_maps: domain key, mailbox key
        virtual_mailbox_domains: alias_domain key, domain key, domain reverse
        relay_domains: domain key
        virtual_mailbox_maps: domain reverse, mailbox key
        virtual_alias_maps: domain reverse, forwardings key
        domain_alias_maps: alias_domain key, domain table, forwardings key
        catchall_maps: domain key, forwardings key
        domain_alias_catchall_maps: alias_domain key, domain reverse, forwardings reverse
        sender_bcc_maps_user: domain key, sender_bcc_user key
        sender_bcc_maps_domain: domain key, sender_bcc_domain key
        recipient_bcc_maps_user: domain key, recipient_bcc_user key
        recipient_bcc_maps_domain: domain key, recipient_bcc_domain key
    """,
    "vimbadmin": """
        aliases: alias key
        domains: domain key
        mailboxes: mailbox key
    """,
    "froxlor": """
        virtual_mailbox_maps: mail_users key
        virtual_mailbox_domains: panel_domains key
        virtual_alias_maps: mail_virtual key, panel_customers reverse
        sender_permissions: mail_users table, mail_virtual key, mail_virtual key
    """,
}
"""For each query of a stack: of each table that it reads, how much of its answers a change in that table drops."""


@pytest.fixture(scope="module")
def server() -> Iterator[MariaDB]:
    with private_directory() as folder, MariaDB(folder) as running:
        yield running


class Asker:
    """Statements under the queries' own account."""

    def __init__(self, server: MariaDB, dbname: str) -> None:
        settings = MysqlSettings(
            hosts=(f"unix:{server.socket}",), user=USER, password=PASSWORD, dbname=dbname
        )
        self._database = MysqlDatabase("mail", settings)

    async def rows(self, sql: str, columns: int) -> list[tuple[bytes | None, ...]]:
        """Return a statement's rows of so many columns."""
        statement = Statement("catalog", (sql.encode(),), require_result_set=False)
        result = await self._database.fetch(statement)
        assert all(len(row) == columns for row in result.rows)
        return [tuple(row) for row in result.rows]

    async def close(self) -> None:
        """Close the connections."""
        await self._database.close()


async def catalog_of(server: MariaDB, dbname: str) -> Catalog:
    """Return the catalog as the queries' account of a database sees it."""
    asker = Asker(server, dbname)
    try:
        return await read_catalog(asker.rows)
    finally:
        await asker.close()


def of(query: str, catalog: Catalog, schema: str) -> Provenance:
    return analyse(MysqlTable.compile("t", query.encode()).holes(), schema, catalog)


def shown(name: str, provenance: Provenance) -> str:
    grades = sorted(f"{reading.table} {reading.grade}" for reading in provenance.readings)
    return f"{name}: {', '.join(grades)}"


@pytest.mark.parametrize("stack", STACKS, ids=lambda stack: stack.name)
async def test_queries_of_installations(server: MariaDB, stack: Stack) -> None:
    """Nearly every query of six installations is followed by key; where it is not, it is known
    which rows it depends on.
    """
    catalog = await catalog_of(server, stack.create(server))
    schema = f"s_{stack.name}"
    found = [shown(name, of(query, catalog, schema)) for name, (query, _) in stack.queries.items()]
    assert found == [line.strip() for line in GRADES[stack.name].strip().splitlines()]


async def test_catalog(server: MariaDB) -> None:
    """Views, foreign keys that cascade and tables without a log are seen with the rights of an
    account that may SELECT.
    """
    server.run_sql(
        "DROP DATABASE IF EXISTS c; CREATE DATABASE c; USE c;"
        "CREATE TABLE grand (id INT PRIMARY KEY);"
        "CREATE TABLE parent (id INT PRIMARY KEY, g INT,"
        " FOREIGN KEY (g) REFERENCES grand (id) ON UPDATE CASCADE);"
        "CREATE TABLE child (Address VARCHAR(99) COLLATE utf8mb4_bin, p INT,"
        " FOREIGN KEY (p) REFERENCES parent (id) ON DELETE SET NULL);"
        "CREATE TABLE strict (p INT, FOREIGN KEY (p) REFERENCES parent (id));"
        "CREATE TABLE view_of (n INT); CREATE VIEW seen AS SELECT Address FROM child"
    )
    server.grant(USER, PASSWORD, "c", "SELECT, SHOW VIEW")
    catalog = await catalog_of(server, "c")
    assert catalog.cascading_parents("c", "child") == {("c", "parent"), ("c", "grand")}
    assert catalog.cascading_parents("c", "strict") == set()
    columns = catalog.columns("c", "child")
    assert columns is not None
    assert columns["address"].collation == "utf8mb4_bin"
    assert columns["p"].ordinal == 1
    assert catalog.columns("c", "seen") is None
    assert shown("q", of("SELECT address FROM seen WHERE address = '%s'", catalog, "c")) == (
        "q: child table"
    )
    server.grant(USER, PASSWORD, "c")
    poorer = await catalog_of(server, "c")
    with pytest.raises(CannotTell, match="GRANT SHOW VIEW"):
        of("SELECT address FROM seen WHERE address = '%s'", poorer, "c")


async def test_parents_out_of_sight(server: MariaDB) -> None:
    """A parent that the account may not see could itself be a child: what depends on it is not taken for known."""
    server.run_sql(
        "DROP DATABASE IF EXISTS c; DROP DATABASE IF EXISTS hidden; CREATE DATABASE c;"
        "CREATE DATABASE hidden; CREATE TABLE hidden.parent (id INT PRIMARY KEY);"
        "CREATE TABLE c.child (p INT, FOREIGN KEY (p) REFERENCES hidden.parent (id) ON DELETE CASCADE)"
    )
    server.grant(USER, PASSWORD, "c")
    catalog = await catalog_of(server, "c")
    with pytest.raises(DatabaseError, match=r"may not see the foreign keys of hidden\.parent"):
        catalog.cascading_parents("c", "child")
    server.run_sql("DROP DATABASE c")
