"""Finding every ``mysql:`` and ``proxy:mysql:`` table in main.cf and in master.cf's options.

A value is kept in two forms: its members as written, and the tokens that each of them expands to,
because a ``$name`` may stand for a part of a table's name, for one table, or for a whole list of
restrictions.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from mailmapd.formats.main_cf import MainCf
from mailmapd.formats.map_list import Member, bundle_content, parse_members, split_list
from mailmapd.formats.master_cf import Service
from mailmapd.importers.postfix.memcache import memcache_backup
from mailmapd.importers.postfix.parameters import PARAMETERS, Form, Keys, Parameter

_WITH_EXTENSIONS = frozenset((Keys.ADDRESS, Keys.TRANSPORT, Keys.MIXED))
_WITH_PARENTS = frozenset((Keys.TRANSPORT, Keys.DOMAIN, Keys.MIXED))

_SEARCH_SETTINGS: dict[str, frozenset[Keys]] = {
    "recipient_delimiter": _WITH_EXTENSIONS,
    "owner_request_special": _WITH_EXTENSIONS,
    "propagate_unmatched_extensions": frozenset((Keys.ADDRESS,)),
    "mydestination": frozenset((Keys.ADDRESS,)),
    "parent_domain_matches_subdomains": _WITH_PARENTS,
}
"""Settings that decide, too, about the keys that a parameter's tables are asked for, and for which parameters.

(Restriction lists are MIXED.)
"""


@dataclass(frozen=True, slots=True)
class Token:
    """One member of the expanded list, and the index of the written member that it comes from.

    `source` is how it was written, where `member` is the table behind it (``memcache:`` with a backup).
    """

    member: Member
    origin: int
    source: str = ""

    @property
    def text(self) -> str:
        """Return the token as it would be written."""
        text = self.source or self.member.text
        return f"!{text}" if self.member.negated else text

    @property
    def options_block(self) -> bool:
        """Return whether the token is ``{ type:name, option = value }``."""
        return self.member.text.startswith("{")

    @property
    def mentions_mysql(self) -> bool:
        """Return whether the token is, bundles or encloses a ``mysql:`` table."""
        if self.options_block:
            return any(
                member.mentions_mysql for member in parse_members(bundle_content(self.member.text))
            )
        return self.member.mentions_mysql


@dataclass(frozen=True, slots=True)
class Setting:
    """One parameter that uses MySQL, as main.cf or (with `service`) an option in master.cf sets it.

    `settings` are the parameters as this reader sees them.
    """

    parameter: Parameter
    service: Service | None
    settings: MainCf
    written: tuple[str, ...]
    tokens: tuple[Token, ...]
    line: int

    @property
    def where(self) -> str:
        """Return the place to name in a message."""
        if self.service is None:
            place = f"main.cf line {self.line}" if self.line else "main.cf (by default)"
            return f"{place}: {self.parameter.name}"
        return self.service.where(self.parameter.name)

    @property
    def name(self) -> str:
        """Return the parameter's name, with the service's behind it where one overrides it."""
        return (
            self.parameter.name
            if self.service is None
            else f"{self.parameter.name}_{self.service.name}"
        )


def find_mysql(main_cf: MainCf, services: Iterable[Service]) -> tuple[Setting, ...]:
    """Return every parameter that is set and uses ``mysql:``, main.cf first.

    Raises ConfigError when a value cannot be expanded.
    """
    services = tuple(services)
    known = known_parameters(main_cf, services)
    found = [
        setting
        for parameter in known.values()
        if main_cf.is_set(parameter.name)
        and (setting := mysql_setting(parameter, None, main_cf)) is not None
    ]
    for service in services:
        found.extend(_overridden(service, known, main_cf))
    return tuple(found)


def known_parameters(main_cf: MainCf, services: Iterable[Service]) -> dict[str, Parameter]:
    """Return the table of parameters, with smtpd_restriction_classes' own restriction lists in it."""
    views = [
        main_cf,
        *(main_cf.with_overrides(service.overrides) for service in services if service.overrides),
    ]
    classes = {
        name for view in views for name in split_list(view.value("smtpd_restriction_classes"))
    }
    return PARAMETERS | {
        name: Parameter(name, Keys.MIXED, Form.RESTRICTIONS, parent_style="smtpd_access_maps")
        for name in sorted(classes)
    }


def _overridden(
    service: Service, known: dict[str, Parameter], main_cf: MainCf
) -> Iterator[Setting]:
    if not service.overrides:
        return
    view = main_cf.with_overrides(service.overrides)
    for parameter in known.values():
        if sees_otherwise(service, parameter, view, main_cf):
            setting = mysql_setting(parameter, service, view)
            if setting is not None:
                yield setting


def sees_otherwise(service: Service, parameter: Parameter, view: MainCf, main_cf: MainCf) -> bool:
    """Return whether a service sets a parameter, or sees main.cf's with other tables or other keys."""
    name = parameter.name
    return name in service.overrides or (
        main_cf.is_set(name) and _differs(parameter, service, view, main_cf)
    )


def _differs(parameter: Parameter, service: Service, view: MainCf, main_cf: MainCf) -> bool:
    """Return whether a service has another value of the parameter, or searches its tables for other keys."""
    searching = [
        name
        for name, kinds in _SEARCH_SETTINGS.items()
        if parameter.keys in kinds and name in service.overrides
    ]
    return any(view.value(name) != main_cf.value(name) for name in (parameter.name, *searching))


def mysql_setting(
    parameter: Parameter, service: Service | None, settings: MainCf
) -> Setting | None:
    """Return a parameter whose value (or default) uses ``mysql:``, None for any other. Raises ConfigError."""
    written = tuple(split_list(settings.raw(parameter.name) or ""))
    tokens = tuple(
        _token(member, origin, settings)
        for origin, text in enumerate(written)
        for member in parse_members(settings.expand(text, parameter.name))
    )
    if not any(token.mentions_mysql for token in tokens):
        return None
    entry = settings.entries.get(parameter.name)
    return Setting(parameter, service, settings, written, tokens, entry.line if entry else 0)


def _token(member: Member, origin: int, settings: MainCf) -> Token:
    """Return a token; a ``memcache:`` table before a ``mysql:`` one stands for that."""
    if member.type == "memcache":
        backup = memcache_backup(member, settings.value("queue_directory"))
        if backup is not None:
            return Token(replace(backup, negated=member.negated), origin, member.text)
    return Token(member, origin)
