"""Finding every ``mysql:`` and ``proxy:mysql:`` table in main.cf and in master.cf's options.

A value is kept in two forms: its members as written, and the tokens that each of them expands to,
because a ``$name`` may stand for a part of a table's name, for one table, or for a whole list of
restrictions.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from mailmapd.formats.main_cf import MainCf
from mailmapd.formats.map_list import Member, bundle_content, parse_members, split_list
from mailmapd.formats.master_cf import Service
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
"""What else decides about the keys that a parameter's tables are asked for, and for which parameters.

(Restriction lists are MIXED.)
"""


@dataclass(frozen=True, slots=True)
class Token:
    """One member of the expanded list, and the index of the written member that it comes from."""

    member: Member
    origin: int

    @property
    def text(self) -> str:
        """Return the token as it would be written."""
        return f"!{self.member.text}" if self.member.negated else self.member.text

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
            return f"main.cf line {self.line}: {self.parameter.name}"
        return f"master.cf line {self.service.line}: {self.service.name}/{self.service.type} -o {self.parameter.name}"

    @property
    def name(self) -> str:
        """Return the parameter's name, with the service's behind it where one overrides it."""
        return (
            self.parameter.name
            if self.service is None
            else f"{self.parameter.name}_{self.service.name}"
        )


@dataclass(frozen=True, slots=True)
class Orphan:
    """A parameter whose value names MySQL, but of which it is not known what Postfix does with it."""

    name: str
    line: int


@dataclass(frozen=True, slots=True)
class Findings:
    """All uses of MySQL in one instance."""

    settings: tuple[Setting, ...]
    orphans: tuple[Orphan, ...]


def find_mysql(main_cf: MainCf, services: Iterable[Service]) -> Findings:
    """Return every parameter that is set and uses ``mysql:``, main.cf first.

    Raises ConfigError when a value cannot be expanded.
    """
    services = tuple(services)
    known = _known_parameters(main_cf, services)
    found = [
        setting
        for parameter in known.values()
        if (setting := _setting(parameter, None, main_cf)) is not None
    ]
    for service in services:
        found.extend(_overridden(service, known, main_cf))
    return Findings(tuple(found), tuple(_orphans(main_cf, known, services)))


def _known_parameters(main_cf: MainCf, services: Iterable[Service]) -> dict[str, Parameter]:
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
        name = parameter.name
        if name in service.overrides or (
            main_cf.is_set(name) and _differs(parameter, service, view, main_cf)
        ):
            setting = _setting(parameter, service, view)
            if setting is not None:
                yield setting


def _differs(parameter: Parameter, service: Service, view: MainCf, main_cf: MainCf) -> bool:
    """Return whether a service has another value of the parameter, or searches its tables for other keys."""
    searching = [
        name
        for name, kinds in _SEARCH_SETTINGS.items()
        if parameter.keys in kinds and name in service.overrides
    ]
    return any(view.value(name) != main_cf.value(name) for name in (parameter.name, *searching))


def _setting(parameter: Parameter, service: Service | None, settings: MainCf) -> Setting | None:
    if not settings.is_set(parameter.name):
        return None
    written = tuple(split_list(settings.raw(parameter.name) or ""))
    tokens = tuple(
        Token(member, origin)
        for origin, text in enumerate(written)
        for member in parse_members(settings.expand(text, parameter.name))
    )
    if not any(token.mentions_mysql for token in tokens):
        return None
    entry = settings.entries.get(parameter.name)
    return Setting(parameter, service, settings, written, tokens, entry.line if entry else 0)


_IRRELEVANT = frozenset(("proxy_read_maps", "proxy_write_maps"))
"""Lists of what proxymap(8) may open: they ask for nothing themselves."""


def _orphans(
    main_cf: MainCf, known: dict[str, Parameter], services: Iterable[Service]
) -> Iterator[Orphan]:
    texts = [entry.value for entry in main_cf.entries.values()]
    texts += [value for service in services for value in service.overrides.values()]
    for name, entry in main_cf.entries.items():
        if "mysql:" not in entry.value or name in known or name in _IRRELEVANT:
            continue
        if not any(
            f"${form}" in text for text in texts for form in (name, f"{{{name}", f"({name}")
        ):
            yield Orphan(name, entry.line)
