"""From a configuration to an engine, with every fault of templates, .cf files, searches and secrets named at once.

On a reload, a table keeps its cache when nothing that decides about its rows has changed, and a
database keeps its connections when its settings are the same.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from mailmapd.cache import TableCache
from mailmapd.cache.memory import Memory
from mailmapd.cluster.settings import ClusterSettings
from mailmapd.config.files import path_beside
from mailmapd.config.schema import CacheSection, Config, MapSection, TableSection
from mailmapd.config.secrets import webhook_token
from mailmapd.databases.interface import Database, DatabaseObserver, SilentObserver
from mailmapd.databases.settings import ChangesSettings, MysqlSettings, SqliteSettings
from mailmapd.engine.definition import PostfixDefinition
from mailmapd.engine.engine import Engine
from mailmapd.engine.maps.map import Map, MapTable
from mailmapd.engine.origin import QueryOrigin
from mailmapd.engine.table import Table
from mailmapd.formats.postfix_cf import PostfixCf, read_postfix_cf
from mailmapd.plan.cluster import cluster_settings
from mailmapd.plan.databases import (
    Settings,
    cf_settings,
    changes_settings,
    check_settings,
    make_database,
    section_settings,
)
from mailmapd.plan.dict_assembly import DictPlans, build_dicts, build_tables, plan_all_dicts
from mailmapd.plan.faults import Faults, named_by
from mailmapd.plan.own_addresses import own_literals
from mailmapd.search import Search
from mailmapd.template.fold import FOLDS, as_it_is
from mailmapd.template.mysql_table import MysqlTable
from mailmapd.template.sql_quoting import check_literals

Clock = Callable[[], float]


@dataclass(frozen=True)
class TablePlan:
    """A table before its database is opened.

    Equal plans answer every key alike, so one may take over the other's cache.
    """

    template: MysqlTable
    settings: Settings
    cache: CacheSection
    fold: bool
    secret: bool = False


@dataclass
class Plan:
    """A configuration compiled: checked as far as that is possible without opening anything."""

    config: Config
    databases: dict[str, Settings]
    tables: dict[str, TablePlan]
    table_databases: dict[str, str]
    searches: dict[str, Search]
    dicts: DictPlans
    changes: dict[str, ChangesSettings] = field(default_factory=dict)
    cluster: ClusterSettings | None = None
    webhook_token: str = field(default="", repr=False)


def plan(config: Config) -> Plan:
    """Compile everything the configuration names. Raises ConfigError with every fault."""
    faults = Faults(config.file)
    databases: dict[str, Settings] = {}
    for name in config.databases:
        with faults.collect(f"database.{name}"):
            settings = section_settings(config, name)
            check_settings(settings)
            databases[name] = settings
    result = Plan(config, databases, {}, {}, {}, DictPlans())
    for name, table in config.tables.items():
        with faults.collect(f"table.{name}"):
            _plan_table(result, name, table)
    for name, section in config.maps.items():
        literals: list[str] = []
        with faults.collect(f"map.{name}.own_addresses"):
            literals = own_literals(section.own_addresses)
        with faults.collect(f"map.{name}.search"):
            result.searches[name] = _search(section, literals)
    result.dicts = plan_all_dicts(config, result.databases, faults)
    for name in result.databases:
        with faults.collect(f"database.{name}.changes"):
            result.changes[name] = changes_settings(config, name)
    with faults.collect("listen"):
        result.webhook_token = webhook_token(config)
    with faults.collect("cluster"):
        result.cluster = cluster_settings(config)
    faults.finish()
    return result


def _plan_table(result: Plan, name: str, table: TableSection) -> None:
    over = table.cache.over_for_passwords if table.secret else table.cache.over
    cache = over(result.config.cache)
    if table.postfix_cf is not None:
        with named_by(result.config.file, f"table.{name}.postfix_cf"):
            cf = read_postfix_cf(path_beside(result.config.file, table.postfix_cf))
        settings = cf_settings(cf)
        check_settings(settings)
        database = _database_of_cf(result, name, settings)
        if isinstance(settings, MysqlSettings):
            check_literals(cf.query, settings.charset)
        template = _cf_template(name, cf)
    elif table.query is not None and table.database in result.databases:
        database = table.database
        settings = result.databases[database]
        if isinstance(settings, MysqlSettings):
            check_literals(table.query.encode(), settings.charset)
        template = MysqlTable.compile(
            name,
            table.query.encode(),
            table.result_format.encode(),
            table.domain,
            expansion_limit=table.expansion_limit,
            require_result_set=table.require_result_set,
            sqlite=isinstance(settings, SqliteSettings),
        )
    else:
        return  # a query with Dovecot's variables, or a database whose own fault is already named
    result.tables[name] = TablePlan(template, settings, cache, table.fold, table.secret)
    result.table_databases[name] = database


def _cf_template(name: str, cf: PostfixCf) -> MysqlTable:
    return MysqlTable.compile(
        name,
        cf.query,
        cf.result_format,
        cf.domain,
        expansion_limit=cf.expansion_limit,
        require_result_set=cf.require_result_set,
        first_column_only=cf.sqlite,
    )


def _database_of_cf(result: Plan, table: str, settings: Settings) -> str:
    """Return the name of the database with these settings; the first table that needs one gives it its own name."""
    for name, known in result.databases.items():
        if known == settings:
            return name
    name = f"cf-{table}"
    result.databases[name] = settings
    return name


def _search(section: MapSection, literals: list[str]) -> Search:
    return Search.compile(
        section.search,
        recipient_delimiter=section.recipient_delimiter.encode(),
        owner_request_special=section.owner_request_special,
        local_domains=[domain.encode() for domain in (*section.local_domains, *literals)],
        parent_domain_matches_subdomains=section.parent_domain_matches_subdomains,
        external_only=section.propagate_unmatched_extensions is not None,
    )


@dataclass
class Assembled:
    """An engine and the plan it was made from, which the next reload compares with its own."""

    plan: Plan
    engine: Engine


def assemble(
    planned: Plan,
    *,
    clock: Clock = time.monotonic,
    observer: DatabaseObserver | None = None,
    previous: Assembled | None = None,
    memory: Memory | None = None,
) -> Assembled:
    """Build the engine of a plan, taking over what has not changed from the previous one.

    Its caches share `memory`. Opens nothing and cannot fail.
    """
    databases: dict[str, Database] = {}
    for name, settings in planned.databases.items():
        if previous is not None and previous.plan.databases.get(name) == settings:
            databases[name] = previous.engine.databases[name]
        else:
            databases[name] = make_database(name, settings, observer or SilentObserver())
    tables = {
        name: _table(planned, name, databases, clock=clock, previous=previous, memory=memory)
        for name in planned.tables
    }
    old = previous or Assembled(
        Plan(planned.config, {}, {}, {}, {}, DictPlans()), Engine({}, {}, {}, {})
    )
    dict_tables = build_tables(
        planned.dicts,
        databases,
        clock,
        previous=old.plan.dicts,
        previous_tables=old.engine.tables,
        memory=memory,
    )
    dicts = build_dicts(planned.dicts, dict_tables, databases, old.engine.dicts, clock)
    for name, table in (tables | dict_tables).items():
        former = old.engine.tables.get(name, table)
        if former is not table:
            table.count_on(former)
    maps: dict[str, Map] = {}
    for name in planned.config.maps:
        _add_map(planned, name, tables, maps, clock=clock, previous=previous)
    engine = Engine(databases, tables | dict_tables, maps, dicts)
    for dict_ in dicts.values():
        if dict_.mismatches is not None:
            dict_.mismatches.forget = engine.apply
    return Assembled(planned, engine)


def _table(
    planned: Plan,
    name: str,
    databases: dict[str, Database],
    *,
    clock: Clock,
    previous: Assembled | None,
    memory: Memory | None,
) -> Table:
    wanted = planned.tables[name]
    database = databases[planned.table_databases[name]]
    if (
        previous is not None
        and previous.plan.tables.get(name) == wanted
        and previous.engine.tables[name].database is database
    ):
        return previous.engine.tables[name]
    return Table(
        name,
        QueryOrigin(name, PostfixDefinition(wanted.template), database, clock),
        TableCache(wanted.cache, memory=memory),
        clock,
        secret=wanted.secret,
    )


def _add_map(
    planned: Plan,
    name: str,
    tables: dict[str, Table],
    maps: dict[str, Map],
    *,
    clock: Clock,
    previous: Assembled | None,
) -> Map:
    """Add a map, after the map of hosted domains that it refers to."""
    if name in maps:
        return maps[name]
    section = planned.config.maps[name]
    hosted = (
        None
        if section.hosted_domains is None
        else _add_map(planned, section.hosted_domains, tables, maps, clock=clock, previous=previous)
    )
    parts = [_map_table(planned, table, tables, section.fold) for table in section.tables]
    maps[name] = Map(
        name,
        parts,
        planned.searches[name],
        clock,
        propagates=section.propagate_unmatched_extensions,
        hosted=hosted,
    )
    if previous is not None and name in previous.engine.maps:
        maps[name].avoided = previous.engine.maps[name].avoided
    return maps[name]


def _map_table(planned: Plan, name: str, tables: dict[str, Table], fold: str) -> MapTable:
    wanted = planned.tables[name]
    way = FOLDS[fold] if wanted.fold else as_it_is
    return MapTable(tables[name], PostfixDefinition(wanted.template), fold=way)
