"""From `[dict.NAME]` sections to dicts: their databases and tables join those of the maps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import attrs

from mailmapd.cache import TableCache
from mailmapd.cache.memory import Memory
from mailmapd.config.schema import CacheSection, Config
from mailmapd.databases.interface import Database
from mailmapd.engine.dicts.definition import DictDefinition
from mailmapd.engine.dicts.dict import Dict, DictTable
from mailmapd.engine.dicts.iteration import Iteration
from mailmapd.engine.dicts.mismatches import Mismatches
from mailmapd.engine.origin import QueryOrigin
from mailmapd.engine.table import Table
from mailmapd.errors import ConfigError
from mailmapd.plan.databases import Settings, check_settings, section_settings
from mailmapd.plan.dict_plan import DictPlan, PlannedTable, plan_dicts
from mailmapd.plan.faults import Faults

Clock = Callable[[], float]


@dataclass(frozen=True)
class DictTablePlan:
    """A dict's table before its database is opened: equal plans answer every key alike."""

    definition: DictDefinition
    settings: Settings
    cache: CacheSection


@dataclass
class DictPlans:
    """Every dict of a configuration, compiled; `tables` are those with a cache, by name."""

    dicts: dict[str, DictPlan] = field(default_factory=dict)
    tables: dict[str, DictTablePlan] = field(default_factory=dict)


def plan_all_dicts(config: Config, databases: dict[str, Settings], faults: Faults) -> DictPlans:
    """Compile the dicts, adding the databases that their dovecot_sql files name to `databases`."""
    result = DictPlans()
    try:
        plans = plan_dicts(config)
    except ConfigError as error:
        faults.found.extend(error.faults)
        return result
    for name, plan in plans.items():
        if plan.own_database is not None:
            with faults.collect(f"dict.{name}.dovecot_sql"):
                own = f"dict.{name}"
                settings = section_settings(
                    attrs.evolve(config, databases={own: plan.own_database}), own
                )
                check_settings(settings)
                databases[own] = settings
        result.dicts[name] = plan
        for table in plan.tables:
            if table is not plan.iterate and table.database in databases:
                over = table.cache.over_for_passwords if table is plan.passdb else table.cache.over
                result.tables[table.name] = DictTablePlan(
                    table.definition, databases[table.database], over(config.cache)
                )
    return result


def build_tables(
    planned: DictPlans,
    databases: Mapping[str, Database],
    clock: Clock,
    *,
    previous: DictPlans,
    previous_tables: Mapping[str, Table],
    memory: Memory | None = None,
) -> dict[str, Table]:
    """Return the dicts' tables, those of the previous configuration where nothing about them has changed."""
    tables: dict[str, Table] = {}
    for plan in planned.dicts.values():
        for table in plan.tables:
            wanted = planned.tables.get(table.name)
            if wanted is None:
                continue
            old = previous_tables.get(table.name)
            if (
                old is not None
                and previous.tables.get(table.name) == wanted
                and old.database is databases[table.database]
            ):
                tables[table.name] = old
            else:
                tables[table.name] = Table(
                    table.name,
                    QueryOrigin(table.name, wanted.definition, databases[table.database], clock),
                    TableCache(wanted.cache, memory=memory),
                    clock,
                    secret=True,
                )
    return tables


def build_dicts(
    planned: DictPlans,
    tables: Mapping[str, Table],
    databases: Mapping[str, Database],
    previous: Mapping[str, Dict],
    clock: Clock,
) -> dict[str, Dict]:
    """Return the dicts over their tables; what they have counted goes on."""
    dicts: dict[str, Dict] = {}
    for name, plan in planned.dicts.items():
        iteration = None
        if plan.iterate is not None:
            iteration = Iteration(
                plan.iterate.name, plan.iterate.definition.query, databases[plan.iterate.database]
            )
        passdb = _served(plan.passdb, tables)
        dicts[name] = Dict(
            name,
            passdb=passdb,
            userdb=_served(plan.userdb, tables),
            iteration=iteration,
            mismatches=_mismatches(passdb, previous.get(name), clock),
        )
        if name in previous:
            dicts[name].avoided = previous[name].avoided
    return dicts


def _mismatches(passdb: DictTable | None, former: Dict | None, clock: Clock) -> Mismatches | None:
    """Return those of the former dict if its table of passwords goes on, or new ones with its counts."""
    old = None if former is None else former.mismatches
    if passdb is None:
        return None
    if old is not None and old.table is passdb.table:
        return old
    new = Mismatches(passdb.table, clock)
    if old is not None:
        new.counts = old.counts
    return new


def _served(planned: PlannedTable | None, tables: Mapping[str, Table]) -> DictTable | None:
    return (
        None
        if planned is None
        else DictTable(tables[planned.name], planned.definition, planned.key)
    )
