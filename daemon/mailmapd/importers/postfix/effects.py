"""Effects of a change on other parameters, which refer to the changed one by ``$name`` or inherit it by default.

Every parameter's expanded value is compared before and after, in main.cf and as each service of
master.cf sees it. What differs and is not changed itself has drifted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from mailmapd.errors import ConfigError
from mailmapd.formats.expansion import references
from mailmapd.formats.main_cf import MainCf
from mailmapd.formats.master_cf import Service
from mailmapd.importers.postfix.approvals import PARAMETER as PROXY_READ_MAPS
from mailmapd.importers.postfix.changes import Change
from mailmapd.importers.postfix.parameter import Parameter

_DOMAIN_LISTS = {
    "virtual_alias_domains": "virtual_alias_maps",
    "virtual_mailbox_domains": "virtual_mailbox_maps",
}
"""Lists of domains that are, by default, the keys without ``@`` of the table of addresses."""


@dataclass(frozen=True, slots=True)
class Scope:
    """Main.cf, or one service's view of it, before and after the changes.

    `changed` are the parameters that are meant to change here. `inherited` is main.cf's scope for a
    service: what changed there in the same way is no matter of the service's own, and what it saw
    otherwise before (a value made of an option's) was not meant to.
    """

    service: Service | None
    before: MainCf
    after: MainCf
    changed: frozenset[str]
    inherited: Scope | None = None

    def drifted(self) -> list[str]:
        """Return the parameters whose value changed although nobody changed them."""
        return [name for name in self.before.names() if self._has_drifted(name)]

    def _has_drifted(self, name: str) -> bool:
        if name == PROXY_READ_MAPS or "$" not in (self.before.raw(name) or ""):
            return False
        if value(self.before, name) == value(self.after, name):
            return False
        return not self.is_meant(name) and not self._as_in_main_cf(name)

    def is_meant(self, name: str) -> bool:
        """Return whether the parameter is meant to change here."""
        if name in self.changed or self.inherited is None or self.service is None:
            return name in self.changed
        return (
            name in self.inherited.changed
            and name not in self.service.overrides
            and value(self.inherited.before, name) == value(self.before, name)
        )

    def sources(self, name: str, direct: set[str]) -> tuple[str, ...]:
        """Return the changed parameters that make one differ, of those that it refers to or itself in main.cf."""
        everywhere = (
            self.changed if self.inherited is None else self.changed | self.inherited.changed
        )
        return tuple(sorted(({name} | direct) & everywhere)) or tuple(sorted(direct))

    def _as_in_main_cf(self, name: str) -> bool:
        if self.inherited is None or self.service is None or name in self.service.overrides:
            return False
        outer = self.inherited
        return value(outer.before, name) == value(self.before, name) and value(
            outer.after, name
        ) == value(self.after, name)


@dataclass(frozen=True, slots=True)
class Drift:
    """One parameter that drifted, its old value, and the changed parameters that it refers to."""

    name: str
    scope: Scope
    old: str
    sources: tuple[str, ...]


def scopes(main_cf: MainCf, services: Iterable[Service], changes: Sequence[Change]) -> list[Scope]:
    """Return main.cf's scope and that of each service with options."""
    values = {change.parameter: change.value for change in changes if change.service is None}
    outer = Scope(None, main_cf, main_cf.with_values(dict(values)), frozenset(values))
    found = [outer]
    for service in services:
        own = {change.parameter: change.value for change in changes if change.service is service}
        if service.overrides or own:
            before = main_cf.with_overrides(service.overrides)
            after = outer.after.with_overrides({**service.overrides, **own})
            found.append(Scope(service, before, after, frozenset(own), outer))
    return found


def drifts(found: Iterable[Scope]) -> Iterator[Drift]:
    """Yield the drifts that do not come from another drift: mending these mends those."""
    for scope in found:
        names = set(scope.drifted())
        for name in sorted(names):
            direct = references(scope.before.raw(name) or "")
            if not direct & names:
                yield Drift(name, scope, value(scope.before, name), scope.sources(name, direct))


def value(view: MainCf, name: str) -> str:
    """Return the expanded value; of a parameter that Postfix leaves to later expansion, the value as written."""
    try:
        return view.value(name)
    except ConfigError:
        # Such as smtpd_expansion_filter, in which "$" is a character like any other
        return view.raw(name) or ""


def means_the_same(drift: Drift, known: dict[str, Parameter], changes: Iterable[Change]) -> bool:
    """Return whether the new value that the parameter inherits answers it as its own would."""
    parameter = known.get(drift.name)
    if parameter is None or parameter.private_reader:
        return False
    scope, new = drift.scope, value(drift.scope.after, drift.name)
    for change in changes:
        other = change.parameter
        if change.service not in (None, scope.service) or other not in known:
            continue
        moves_alike = value(scope.before, other) == drift.old and value(scope.after, other) == new
        if not moves_alike or not scope.is_meant(other):
            continue
        if _alike(parameter, known[other], scope.before):
            return True
    return False


def _alike(one: Parameter, other: Parameter, view: MainCf) -> bool:
    if _DOMAIN_LISTS.get(one.name) == other.name:
        # A bare name is one key of an address search, unless a part of it counts as an extension.
        delimiters = view.value("recipient_delimiter")
        return not any(letter.isalnum() or letter in "-_" for letter in delimiters)
    return (one.keys, one.form, one.propagates, one.parent_style, one.folding, one.one_by_one) == (
        other.keys,
        other.form,
        other.propagates,
        other.parent_style,
        other.folding,
        other.one_by_one,
    ) and one.refused_by == other.refused_by
