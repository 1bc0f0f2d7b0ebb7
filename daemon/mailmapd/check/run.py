"""A whole check, in order: files, databases, queries, Postfix."""

from __future__ import annotations

import contextlib
import dataclasses
import re
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from pathlib import Path

from mailmapd.check.accounts import grants, login_findings
from mailmapd.check.asked_queries import AskedQuery, asked_queries, query_texts_of
from mailmapd.check.auth_cache import auth_cache_findings
from mailmapd.check.cluster import cluster_findings
from mailmapd.check.database_schema import TableShape, quoted, read_schema
from mailmapd.check.dovecot_rows import ignored_name_findings, row_findings
from mailmapd.check.dovecot_traps import dovecot_findings
from mailmapd.check.explain import (
    PlanHidden,
    PlanRow,
    explain,
    hidden_finding,
    scan_findings,
    tells_nothing,
)
from mailmapd.check.files import (
    folder_findings,
    open_folder,
    secret_findings,
    socket_findings,
    trusted_owners,
)
from mailmapd.check.files_read import FileRead, files_read
from mailmapd.check.finding import Finding, Level
from mailmapd.check.identity_alias import identity_findings
from mailmapd.check.mail_tables import plain_password_findings, unique_name_findings
from mailmapd.check.password_columns import password_findings
from mailmapd.check.plain_tcp import plain_tcp_findings
from mailmapd.check.postfix_traps import postfix_findings
from mailmapd.check.query_rules import query_findings
from mailmapd.check.query_texts import query_texts
from mailmapd.check.routines import read_routines, routine_findings
from mailmapd.check.service_files import service_file_findings
from mailmapd.check.socket_paths import account_findings
from mailmapd.check.sqlite_queries import sqlite_findings
from mailmapd.check.systemd_units import service_of, unit_findings
from mailmapd.check.twice_hosted import twice_hosted_findings
from mailmapd.check.unknown_names import schema_finding
from mailmapd.check.writing_queries import writing_findings
from mailmapd.config.schema import Config
from mailmapd.databases.interface import Database
from mailmapd.databases.mysql.database import MysqlDatabase
from mailmapd.databases.settings import ChangesSettings, MysqlSettings
from mailmapd.errors import ConfigError, DatabaseError, DataError, SchemaError
from mailmapd.formats.main_cf import read_main_cf
from mailmapd.model import ResultSet
from mailmapd.plan.assembly import Plan
from mailmapd.template.sql_lexer import without_comments
from mailmapd.template.statement import Statement

_SAMPLE = b"user@example.com"
_USERS = 100  # whose rows are looked at
_WORD = re.compile(r"\w+")
_COMPARED_COLUMN = re.compile(r"(?:`?(\w+)`?\.)?`?(\w+)`?\s*=\s*'%[sSdDuUn]'")


async def check(plan: Plan, postfix: Path | None) -> AsyncIterator[Finding]:
    """Yield every finding, the cheapest checks first.

    `postfix` is Postfix's configuration directory, when it is to be looked at.
    """
    config = plan.config
    texts = query_texts(config)
    files = list(files_read(config, plan.databases))
    for finding in [
        *secret_findings(files, trusted_owners(config)),
        *socket_findings(config),
        *account_findings(config),
        *unit_findings(config),
        *_service_findings(config, files),
        *_text_findings(config, texts),
        *password_findings(config, texts),
        *folder_findings(texts.values(), "queries"),
        *dovecot_findings(config, plan.dicts.dicts),
        *ignored_name_findings(config, plan.dicts.dicts.values()),
    ]:
        yield finding
    for name, settings in plan.databases.items():
        queries = list(asked_queries(plan, name, texts))
        all_texts = query_texts_of(plan, name, texts)
        for table, text in all_texts.items():
            for finding in writing_findings(table, text):
                yield finding
        found = (
            _database_findings(name, settings, plan.changes[name], queries, all_texts)
            if isinstance(settings, MysqlSettings)
            else sqlite_findings(name, settings, queries)
        )
        async for finding in found:
            yield finding
    if plan.cluster is not None:
        async for finding in cluster_findings(plan.cluster):
            yield finding
    if config.dovecot is not None:
        async for finding in auth_cache_findings(config.dovecot):
            yield finding
    async for finding in _postfix_findings(plan, postfix, texts):
        yield finding


def _service_findings(config: Config, files: Iterable[FileRead]) -> Iterator[Finding]:
    service = service_of(config)
    if service is not None:
        yield from service_file_findings(files, service)


def _text_findings(config: Config, texts: Mapping[str, str]) -> Iterator[Finding]:
    for name, query in texts.items():
        table = config.tables[name]
        yield from query_findings(
            name, query, table.cache.over(config.cache), dovecot=table.dovecot_query is not None
        )


async def _database_findings(
    name: str,
    settings: MysqlSettings,
    changes: ChangesSettings,
    queries: list[AskedQuery],
    texts: Mapping[str, str],
) -> AsyncIterator[Finding]:
    async for finding in plain_tcp_findings(name, settings):
        yield finding
    reachable = []
    for host in settings.hosts:
        alone = MysqlDatabase(name, dataclasses.replace(settings, hosts=(host,), replicas=()))
        try:
            granted = await grants(alone)
        except DatabaseError as error:
            yield Finding(
                Level.FAULT,
                "login",
                f"database {name}",
                str(error),
                "check hosts, user, password and dbname",
            )
        else:
            reachable.append(host)
            if len(reachable) == 1:
                for finding in login_findings(name, settings, granted, changes):
                    yield finding
        finally:
            await alone.close()
    if not reachable:
        return
    database = MysqlDatabase(
        name, dataclasses.replace(settings, hosts=(reachable[0],), replicas=())
    )
    try:
        async for finding in _content_findings(name, settings, database, queries):
            yield finding
        routines = await read_routines(database)
        for finding in routine_findings(texts, settings.dbname or "", routines):
            yield finding
    except DatabaseError as error:
        yield Finding(Level.FAULT, "database", f"database {name}", str(error), "")
    finally:
        await database.close()


async def _content_findings(
    name: str, settings: MysqlSettings, database: Database, queries: list[AskedQuery]
) -> AsyncIterator[Finding]:
    schema = await read_schema(database)
    words = {word for query in queries for word in _WORD.findall(without_comments(query.text))}
    used = [shape for table, shape in schema.items() if table in words]
    hidden = []
    for query in queries:
        try:
            for finding in await _query_findings(database, query, schema):
                yield finding
        except PlanHidden:
            hidden.append(query.table)
    if hidden:
        yield hidden_finding(name, hidden, settings)
    of_maps = [query.text for query in queries if query.of_map]
    hashed = [query.text for query in queries if query.hashed]
    for finding in [
        *await unique_name_findings(name, database, used),
        *await plain_password_findings(name, database, used, of_maps, hashed),
    ]:
        yield finding


async def _query_findings(
    database: Database, query: AskedQuery, schema: Mapping[str, TableShape]
) -> list[Finding]:
    shown: list[PlanRow] = []
    refusal: DataError | None = None
    for key in [_SAMPLE, *await _sample_keys(database, query.text, schema)]:
        try:
            statement = query.statement(key)
            if statement is None:
                continue
            shown = await _plan_or_nothing(database, statement)
        except DataError as error:
            refusal = error  # perhaps of this key alone
            continue
        except SchemaError as error:
            return [
                schema_finding(
                    query.table,
                    query.text,
                    error,
                    schema,
                    await _address_columns(database, query.text, schema),
                )
            ]
        if not tells_nothing(shown):
            break
    if refusal is not None and not shown:
        return [
            Finding(
                Level.FAULT,
                "query_refused",
                f"table {query.table}",
                str(refusal),
                "correct the query",
            )
        ]
    scans = list(scan_findings(query.table, query.text, shown, schema)) if query.by_key else []
    return [*scans, *await _field_findings(database, query, schema)]


async def _plan_or_nothing(database: Database, statement: Statement) -> list[PlanRow]:
    """Return the plan. Raises PlanHidden only for a query that works: of a broken view the server says the same."""
    try:
        return await explain(database, statement)
    except PlanHidden:
        await database.fetch(statement)
        raise


async def _field_findings(
    database: Database, query: AskedQuery, schema: Mapping[str, TableShape]
) -> list[Finding]:
    """Return what Dovecot 2.4 could not take of the rows of some users."""
    if query.user_fields is None:
        return []
    keys = await _sample_keys(database, query.text, schema, _USERS)
    results = []
    for statement in filter(None, map(query.statement, keys)):
        with contextlib.suppress(DataError):  # of this key alone; EXPLAIN has told what is wrong
            results.append(await database.fetch(statement))
    return list(row_findings(query.table, query.user_fields, results))


async def _address_columns(
    database: Database, query: str, schema: Mapping[str, TableShape]
) -> list[str]:
    """Return the columns of the query's tables in which most values are mail addresses."""
    words = set(_WORD.findall(without_comments(query)))
    found = []
    for name, shape in schema.items():
        texts = (
            [column for column in shape.columns if shape.is_text(column)] if name in words else []
        )
        if texts:
            averages = ", ".join(f"AVG({quoted(column)} LIKE '%_@_%')" for column in texts)
            statement = Statement("check", (f"SELECT {averages} FROM {quoted(name)}".encode(),))
            try:
                result = await database.fetch(statement)
            except (SchemaError, DataError):
                continue  # a view that is broken; its query is a finding
            found += [
                column
                for column, share in zip(texts, result.rows[0], strict=True)
                if float(share or b"0") > 0.5
            ]
    return found


async def _sample_keys(
    database: Database, query: str, schema: Mapping[str, TableShape], number: int = 3
) -> list[bytes]:
    """Return keys that have rows: a few values of the columns that the query compares with its key."""
    keys: list[bytes] = []
    query = without_comments(query)
    words = set(_WORD.findall(query))
    for _, column in _COMPARED_COLUMN.findall(query):
        for name, shape in schema.items():
            if name in words and column in shape.columns:
                value = quoted(column)
                sql = f"SELECT {value} FROM {quoted(name)} WHERE {value} <> '' LIMIT {number}"
                try:
                    result: ResultSet = await database.fetch(Statement("check", (sql.encode(),)))
                except (SchemaError, DataError):
                    continue  # a view that is broken; its query is a finding
                values = [row[0] for row in result.rows if row[0]]
                keys += [value if b"@" in value else b"user@" + value for value in values]
                keys += [value for value in values if b"@" not in value]
    return keys


async def _postfix_findings(
    plan: Plan, directory: Path | None, texts: Mapping[str, str]
) -> AsyncIterator[Finding]:
    if directory is None:
        for finding in identity_findings(plan.config, texts, None):
            yield finding
        return
    try:
        for finding in identity_findings(plan.config, texts, directory):
            yield finding
        for finding in postfix_findings(plan.config, directory):
            yield finding
        async for finding in twice_hosted_findings(plan, directory):
            yield finding
        base = read_main_cf(directory).value("virtual_mailbox_base")
    except ConfigError as error:
        for fault in error.faults:
            yield Finding(
                Level.FAULT,
                "main_cf",
                fault.file,
                f"{fault.where}: {fault.problem}".removeprefix(": "),
                fault.remedy,
            )
        return
    if base and base != "/":
        for finding in open_folder(Path(base), "virtual_mailbox_base"):
            yield finding
