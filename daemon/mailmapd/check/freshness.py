"""Freshness: whether the changes of a database can be followed, and what a change of each of its tables drops."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from mailmapd.changes.catalog import ask_for_catalog, read_filters
from mailmapd.changes.layout import layout_of
from mailmapd.changes.readers import Reader, Readers, find_readers
from mailmapd.changes.source import find_source
from mailmapd.check.database_schema import quoted_text
from mailmapd.check.finding import Finding, Level
from mailmapd.databases.host_list import HostAddress, parse_hosts
from mailmapd.databases.mysql.account import account_for
from mailmapd.databases.mysql.binlog.session import (
    CannotFollow,
    NoLog,
    Session,
    open_session,
)
from mailmapd.databases.mysql.binlog.stream import Replica
from mailmapd.databases.mysql.opener import MysqlOpener
from mailmapd.databases.settings import ChangesSettings, MysqlSettings, SqliteSettings
from mailmapd.engine.definition import Definition
from mailmapd.errors import DatabaseError
from mailmapd.plan.assembly import Plan, assemble
from mailmapd.provenance.analysis import check_steady
from mailmapd.provenance.reading import CannotTell

_RESTRICTED = ("NOBLOB", "MINIMAL")
_OF_KEY = {"s": "its key", "u": "keys with its local part", "d": "keys with its domain"}


@dataclass
class Drop:
    """The answers of one query that a change of one base table drops; only changes of these columns do."""

    query: str
    table: str
    columns: str
    drops: str


@dataclass
class HostFitness:
    """A host as it can be followed, or not: `fault` says why not, `remedy` what to write, `notes` what else matters."""

    host: str
    fault: str = ""
    remedy: str = ""
    notes: list[str] = field(default_factory=list)


@dataclass
class Freshness:
    """One database: its hosts, what changes drop, and the tables that are not followed, with the reason."""

    database: str
    is_demanded: bool
    hosts: list[HostFitness] = field(default_factory=list)
    drops: list[Drop] = field(default_factory=list)
    not_followed: dict[str, str] = field(default_factory=dict)


async def freshness(plan: Plan) -> list[Freshness]:
    """Return that of each database whose changes are to be followed. Opens connections, and no log for long."""
    engine = assemble(plan).engine
    found = []
    try:
        for name, settings in plan.databases.items():
            changes = plan.changes[name]
            if changes.follow == "no":
                continue
            definitions = {
                table.name: table.definition
                for table in engine.tables.values()
                if table.database is engine.databases[name]
            }
            checked = Freshness(name, changes.follow == "yes")
            if isinstance(settings, SqliteSettings):
                _look_at_file(checked, settings, definitions)
            else:
                await _look_at_hosts(checked, settings, changes, definitions)
            found.append(checked)
    finally:
        await engine.close()
    return found


def _look_at_file(
    checked: Freshness, settings: SqliteSettings, definitions: Mapping[str, Definition]
) -> None:
    checked.hosts.append(HostFitness(settings.path))
    for table, definition in definitions.items():
        try:
            check_steady(layout_of(definition).query)
        except CannotTell as error:
            checked.not_followed[table] = str(error)
        else:
            checked.drops.append(Drop(table, "(any commit)", "all", "all answers"))


async def _look_at_hosts(
    checked: Freshness,
    settings: MysqlSettings,
    changes: ChangesSettings,
    definitions: Mapping[str, Definition],
) -> None:
    replication = settings
    if changes.user is not None:
        replication = replace(settings, user=changes.user, password=changes.password, dbname="")
    addresses = parse_hosts(settings.hosts)
    for address in addresses:
        fitness = HostFitness(address.label)
        checked.hosts.append(fitness)
        try:
            session = await open_session(MysqlOpener(settings), address)
        except DatabaseError as error:
            fitness.fault = str(error)
            continue
        try:
            if not checked.drops and not checked.not_followed:
                schema = account_for(address, settings)[1].dbname
                catalog = await ask_for_catalog(session)
                readers = find_readers(definitions, catalog, schema)
                checked.drops, checked.not_followed = list(_drops(readers)), readers.not_followed
            try:
                await _look_at_server(fitness, session, MysqlOpener(replication), address)
            except NoLog as error:
                others = [other for other in addresses if other != address]
                source = await find_source(session, MysqlOpener(settings), others, error)
                fitness.notes.append(
                    f"it has no log of what it replicates: that of {source.label} is read in its place"
                )
        except DatabaseError as error:
            fitness.fault = str(error)
        finally:
            session.close()


async def _look_at_server(
    fitness: HostFitness, session: Session, replication: MysqlOpener, address: HostAddress
) -> None:
    """Say whether the server is fit and the account may read its log, by beginning it. Raises DatabaseError."""
    await session.check_fitness()
    settings = await session.variables(
        "binlog_row_image", "binlog_expire_logs_seconds", "expire_logs_days"
    )
    image = settings["binlog_row_image"].upper()
    if image in _RESTRICTED:
        fitness.notes.append(
            f"binlog_row_image is {image}: a change that does not log the column of the key drops all of a table; "
            "FULL drops the key alone"
        )
    kept = float(settings["binlog_expire_logs_seconds"] or 0) / 86400
    kept = kept or float(settings["expire_logs_days"] or 0)
    fitness.notes.append(
        f"the log is kept for {kept:g} days" if kept else "the log is kept until somebody purges it"
    )
    fitness.notes += await _filters(session)
    try:
        stream, _ = await Replica(replication, address).open(
            lambda *_: None, lambda _: None, lambda _: None
        )
    except CannotFollow as error:
        fitness.fault = str(error)
        if "may not read the log" in fitness.fault:
            fitness.remedy = (
                f"GRANT REPLICATION SLAVE ON *.* TO {await _account(replication, address)};"
            )
    else:
        stream.close()


async def _account(opener: MysqlOpener, address: HostAddress) -> str:
    """Return the account of a login as GRANT takes it. Raises DatabaseError."""
    session = await open_session(opener, address)
    try:
        name, _, host = (await session.value("SELECT CURRENT_USER()")).rpartition("@")
    finally:
        session.close()
    return f"{quoted_text(name)}@{quoted_text(host)}"


async def _filters(session: Session) -> list[str]:
    """Return what the log leaves out, as far as the account may see it."""
    filters = await read_filters(session.rows)
    if filters is None:
        privilege = "BINLOG MONITOR" if session.is_mariadb else "REPLICATION CLIENT"
        note = (
            "binlog_do_db and binlog_ignore_db cannot be seen: the audit alone finds what they leave out; "
            f"GRANT {privilege} ON *.*, and it is not followed"
        )
        return [note]
    return [
        f"{name} is {', '.join(sorted(schemas))}: tables that it leaves out are not followed"
        for name, schemas in zip(("binlog_do_db", "binlog_ignore_db"), filters, strict=True)
        if schemas
    ]


def _drops(readers: Readers) -> list[Drop]:
    """Return what changes drop, by query and base table."""
    found = [
        Drop(reader.table, f"{name[0]}.{name[1]}", _columns(reader), _dropped(reader))
        for name, of_table in readers.by_table.items()
        for reader in of_table
    ]
    found += [
        Drop(
            table,
            f"{parent[0]}.{parent[1]}",
            "deleted or renamed rows",
            "all answers (foreign key)",
        )
        for parent, children in readers.children.items()
        for table in sorted({table for child in children for table in readers.tables_of(child)})
    ]
    return sorted(found, key=lambda drop: (drop.query, drop.table))


def _columns(reader: Reader) -> str:
    return ", ".join(sorted(reader.reading.columns))


def _dropped(reader: Reader) -> str:
    grade = reader.reading.grade
    if grade == "table":
        return "all answers"
    if grade == "reverse":
        return "keys that a query finds for the row"
    parts = {
        part
        for alternative in reader.reading.alternatives
        for binding in alternative
        for part in binding.parts
    }
    if reader.layout.key(dict.fromkeys(parts, b"")) is not None:
        return "its key"
    return " and ".join(sorted(_OF_KEY.get(part, "keys with its value") for part in parts))


def demanded_findings(found: Iterable[Freshness]) -> Iterator[Finding]:
    """Yield a fault for each host that cannot be followed though the configuration demands it."""
    for checked in found:
        for host in checked.hosts if checked.is_demanded else ():
            if host.fault:
                problem = f"its changes cannot be followed: {host.fault}"
                yield Finding(
                    Level.FAULT, "changes", f"database {checked.database}", problem, host.remedy
                )
