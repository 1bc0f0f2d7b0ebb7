"""Uses of ``socketmap:`` tables in main.cf, and in master.cf where a service has options of its own.

What a service sees otherwise is a use of its own: another value, or other settings of the search.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mailmapd.formats.main_cf import MainCf
from mailmapd.formats.map_list import Member, SocketTable, bundle_content, parse_members
from mailmapd.formats.master_cf import Service
from mailmapd.importers.postfix.finder import known_parameters, sees_otherwise
from mailmapd.importers.postfix.parameters import (
    IMPLIED_RESTRICTION,
    RESTRICTION_KEYS,
    Form,
    Keys,
    Parameter,
)


@dataclass(frozen=True, slots=True)
class Use:
    """One ``socketmap:`` table in main.cf, or (with `service`) as an option of master.cf has it.

    The table, the keys Postfix asks, and whether Postfix walks partial keys itself. `settings` are
    the parameters as this reader sees them.
    """

    parameter: Parameter
    keys: Keys
    table: SocketTable
    key_by_key: bool
    settings: MainCf
    service: Service | None = None

    @property
    def map(self) -> str:
        """Return the map that is asked for."""
        return self.table.map

    @property
    def where(self) -> str:
        """Return the place to name in a finding."""
        path, name = self.settings.path, self.parameter.name
        if self.service is not None:
            return f"{path.parent}/{self.service.where(name)}"
        return f"{path} line {self.settings.entries[name].line}: {name}"


def socketmap_uses(main_cf: MainCf, services: Sequence[Service] = ()) -> Iterator[Use]:
    """Yield the socketmap tables of every parameter that main.cf sets, and what services see otherwise.

    Raises ConfigError.
    """
    known = known_parameters(main_cf, services)
    for parameter in known.values():
        if main_cf.is_set(parameter.name):
            yield from _uses(parameter, main_cf, None)
    for service in services:
        view = main_cf.with_overrides(service.overrides)
        for parameter in known.values() if service.overrides else ():
            if service.command in parameter.readers and sees_otherwise(
                service, parameter, view, main_cf
            ):
                yield from _uses(parameter, view, service)


def _uses(parameter: Parameter, view: MainCf, service: Service | None) -> Iterator[Use]:
    before = ""
    for member in parse_members(view.value(parameter.name)):
        keys = (
            _restriction_keys(parameter, before)
            if parameter.form is Form.RESTRICTIONS
            else parameter.keys
        )
        before = member.text.lower()
        for table, bundled in _maps(member, False):
            yield Use(parameter, keys, table, bundled, view, service)


def _restriction_keys(parameter: Parameter, before: str) -> Keys:
    """Return the keys for a table in a restriction list.

    Those of the restriction before it, or of the one that the list implies.
    """
    implied = IMPLIED_RESTRICTION.get(parameter.name, "")
    return RESTRICTION_KEYS.get(before) or RESTRICTION_KEYS.get(implied, Keys.EXACT)


def _maps(member: Member, bundled: bool) -> Iterator[tuple[SocketTable, bool]]:
    if member.type == "socketmap":
        yield SocketTable.parse(member.text), bundled
    elif member.text.startswith("{"):
        for inner in parse_members(bundle_content(member.text)):
            yield from _maps(inner, bundled)
    for inner in member.inner:
        yield from _maps(inner, member.inner[0].asked_partial_keys)
