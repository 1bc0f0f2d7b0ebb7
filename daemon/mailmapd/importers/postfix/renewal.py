"""Importing again after the switch: main.cf as it would be today without mailmapd.

After the switch main.cf asks mailmapd, and the saved main.cf tells what it asked before. Since then
a panel or an administrator may have changed either. So the old values go back into today's files,
parameter by parameter: that is what the second import reads, what it saves for the way back, and
what it switches over anew.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from mailmapd.formats.main_cf import MainCf
from mailmapd.formats.map_list import split_list
from mailmapd.formats.master_cf import Service
from mailmapd.importers.postfix.changes import SOCKET_IN_QUEUE, Change, MovePlan, Restore

_TABLE = f"socketmap:unix:{SOCKET_IN_QUEUE}:"
_ONE_BY_ONE = re.compile(
    rf"unionmap:\{{texthash:/dev/null,{re.escape(_TABLE)}([\w.-]+)\}}|{re.escape(_TABLE)}([\w.-]+)"
)


@dataclass(frozen=True, slots=True)
class Instance:
    """The files of an instance: main.cf's parameters, and master.cf's services."""

    main_cf: MainCf
    services: tuple[Service, ...]

    def values(self) -> Iterator[str]:
        """Yield every value that is set."""
        yield from (entry.value for entry in self.main_cf.entries.values())
        for service in self.services:
            yield from service.overrides.values()

    def asks_mailmapd(self) -> bool:
        """Return whether any parameter asks the socket that an import names."""
        return any(_TABLE in value for value in self.values())

    def value(self, parameter: str, service: Service | None) -> str | None:
        """Return a value as it is set in main.cf or for the service of the same name, None when it is not."""
        if service is None:
            entry = self.main_cf.entries.get(parameter)
            return None if entry is None else entry.value
        found = _namesake(self.services, service)
        return None if found is None else found.overrides.get(parameter)


def restores(today: Instance, saved: Instance, plan: MovePlan) -> list[Restore]:
    """Return what must be set in today's files to take mailmapd out of them; `plan` is that of the saved files."""
    written = set(re.findall(r"proxy:mysql:([^\s,{}]+)", " ".join(saved.values())))
    tables = {
        name: [f"proxy:mysql:{file}" if file in written else f"mysql:{file}" for file in files]
        for name, files in plan.members.items()
    }
    found = list(_of_changes(today, saved, plan.changes, tables))
    known = {(change.parameter, change.service.line if change.service else 0) for change in found}
    for parameter, entry in today.main_cf.entries.items():
        old = _with_tables(entry.value, tables)
        if old != entry.value and (parameter, 0) not in known:
            found.append(Restore(parameter, None, old))
    for service in today.services:
        for parameter, value in service.overrides.items():
            old = _with_tables(value, tables)
            if old != value and (parameter, service.line) not in known:
                found.append(Restore(parameter, service, old))
    return found


def without_mailmapd(today: Instance, found: Iterable[Restore]) -> Instance:
    """Return today's files with the old values in them."""
    found = list(found)
    main_cf = today.main_cf.with_values(
        {change.parameter: change.value for change in found if change.service is None}
    )
    services = []
    for service in today.services:
        overrides = dict(service.overrides)
        for change in found:
            if change.service is service:
                overrides.pop(change.parameter, None)
                if change.value is not None:
                    overrides[change.parameter] = change.value
        services.append(replace(service, overrides=overrides))
    return Instance(main_cf, tuple(services))


def _of_changes(
    today: Instance, saved: Instance, changes: Sequence[Change], tables: Mapping[str, list[str]]
) -> Iterator[Restore]:
    for change in changes:
        value = today.value(change.parameter, change.service)
        if value is None:
            continue
        service = None if change.service is None else _namesake(today.services, change.service)
        if split_list(value) == split_list(change.value):
            old = saved.value(change.parameter, change.service)
            if old is not None and service is not None:
                old = ",".join(split_list(old))  # white space is none of postconf -P's values
            yield Restore(change.parameter, service, old)
        elif _TABLE in value:
            yield Restore(change.parameter, service, _with_tables(value, tables))


def _with_tables(value: str, tables: Mapping[str, list[str]]) -> str:
    """Return a value with the old tables in the place of mailmapd's maps, as far as they are known."""

    def old(match: re.Match[str]) -> str:
        return ",".join(tables.get(match[1] or match[2], [match[0]]))

    return _ONE_BY_ONE.sub(old, value)


def _namesake(services: Iterable[Service], wanted: Service) -> Service | None:
    return next(
        (
            service
            for service in services
            if (service.name, service.type) == (wanted.name, wanted.type)
        ),
        None,
    )
