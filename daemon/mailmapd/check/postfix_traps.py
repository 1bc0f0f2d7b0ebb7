"""Disagreements of main.cf and mailmapd.toml, and tables that Postfix does not take from a socket."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from mailmapd.check.finding import Finding, Level
from mailmapd.check.socket_paths import is_ours, path_findings, reach_findings
from mailmapd.config.schema import Config, MapSection
from mailmapd.formats.main_cf import MainCf, read_main_cf
from mailmapd.formats.map_list import Member, SocketTable, parse_members, split_list
from mailmapd.formats.master_cf import Service, read_master_cf
from mailmapd.importers.postfix.local_domains import local_domains
from mailmapd.importers.postfix.parameters import (
    IMPLIED_RESTRICTION,
    PARAMETERS,
    RESTRICTION_KEYS,
    Form,
    Keys,
    Parameter,
)

_LMTP = "virtual_transport = lmtp:unix:private/dovecot-lmtp"


@dataclass(frozen=True, slots=True)
class Use:
    """One ``socketmap:`` table in main.cf.

    The table, the keys Postfix asks, and whether Postfix walks partial keys itself.
    """

    parameter: Parameter
    keys: Keys
    table: SocketTable
    line: int
    key_by_key: bool

    @property
    def map(self) -> str:
        """Return the map that is asked for."""
        return self.table.map


def postfix_findings(config: Config, directory: Path) -> Iterator[Finding]:
    """Yield what is wrong between a Postfix instance and the configuration.

    Raises ConfigError when main.cf cannot be read.
    """
    main_cf = read_main_cf(directory)
    services = read_master_cf(directory)
    yield from _repeated(main_cf)
    yield from _virtual_agent(main_cf, services)
    yield from reach_findings(config, main_cf)
    queue = main_cf.value("queue_directory") or "/var/spool/postfix"
    for use in socketmap_uses(main_cf):
        if is_ours(use.table, config, queue):
            where = f"{main_cf.path} line {use.line}: {use.parameter.name}"
            for code, problem, remedy in path_findings(
                config, queue, services, use.parameter, use.table
            ):
                yield Finding(Level.FAULT, code, where, problem, remedy)
            yield from _use_findings(config, main_cf, use, where)


def socketmap_uses(main_cf: MainCf) -> Iterator[Use]:
    """Yield the socketmap tables of every parameter that main.cf sets."""
    for parameter in PARAMETERS.values():
        if not main_cf.is_set(parameter.name):
            continue
        before = ""
        for member in parse_members(main_cf.value(parameter.name)):
            keys = (
                _restriction_keys(parameter, before)
                if parameter.form is Form.RESTRICTIONS
                else parameter.keys
            )
            before = member.text.lower()
            for table, bundled in _maps(member, False):
                yield Use(parameter, keys, table, main_cf.entries[parameter.name].line, bundled)


def _restriction_keys(parameter: Parameter, before: str) -> Keys:
    """Return the keys for a table in a restriction list.

    Those of the restriction before it, or of the one that the list implies.
    """
    implied = IMPLIED_RESTRICTION.get(parameter.name, "")
    return RESTRICTION_KEYS.get(before) or RESTRICTION_KEYS.get(implied, Keys.EXACT)


def _maps(member: Member, bundled: bool) -> Iterator[tuple[SocketTable, bool]]:
    if member.type == "socketmap":
        yield SocketTable.parse(member.text), bundled
    for inner in member.inner:
        yield from _maps(inner, member.inner[0].asked_partial_keys)


def _repeated(main_cf: MainCf) -> Iterator[Finding]:
    for name, entry in main_cf.entries.items():
        if entry.overridden and name in PARAMETERS:
            lines = ", ".join(map(str, entry.overridden))
            problem = (
                f"{name} is set more than once: line {entry.line} wins, and line {lines} is ignored"
            )
            remedy = f"write one {name}, with all tables in it, separated by commas"
            yield Finding(Level.FAULT, "set_twice", f"{main_cf.path}", problem, remedy)


def _virtual_agent(main_cf: MainCf, services: Iterable[Service]) -> Iterator[Finding]:
    """Yield a finding when virtual(8) delivers: it takes no tables from a socket."""
    transport = main_cf.value("virtual_transport").partition(":")[0]
    agents = [
        service
        for service in services
        if service.name == transport and service.command == "virtual"
    ]
    if not agents and transport != "virtual":
        return
    members = parse_members(main_cf.value("virtual_mailbox_maps"))
    overridden = any("virtual_mailbox_maps" in service.overrides for service in agents)
    why = (
        "virtual_transport is not set, so"
        if not main_cf.is_set("virtual_transport")
        else f"virtual_transport is {transport}:"
    )
    if any(member.type == "socketmap" or member.inner for member in members) and not overridden:
        problem = (
            f"{why} virtual(8) delivers, and defers all mail (4.3.5): it takes no socketmap: tables"
        )
        yield Finding(Level.FAULT, "virtual_agent", str(main_cf.path), problem, _LMTP)
    elif members:
        problem = f"{why} virtual(8) delivers, reads virtual_mailbox_maps itself, and takes no socketmap: tables"
        yield Finding(Level.WARNING, "virtual_agent", str(main_cf.path), problem, _LMTP)


def _use_findings(config: Config, main_cf: MainCf, use: Use, where: str) -> Iterator[Finding]:
    section = config.maps.get(use.map)
    if section is None:
        near = difflib.get_close_matches(use.map, list(config.maps), n=1)
        remedy = (
            f"did you mean {near[0]}?"
            if near
            else f"{config.file} has {', '.join(config.maps) or 'no maps'}"
        )
        yield Finding(
            Level.FAULT,
            "unknown_map",
            where,
            f"asks for the map {use.map}, which does not exist",
            remedy,
        )
        return
    wanted = "exact" if use.key_by_key or use.keys in (Keys.EXACT, Keys.MIXED) else use.keys.value
    if isinstance(section.search, str) and section.search != wanted:
        problem = f"Postfix would search {wanted} keys, and the map searches {section.search}"
        yield Finding(Level.FAULT, "search", where, problem, f'[map.{use.map}] search = "{wanted}"')
    elif wanted != "exact":
        yield from _search_findings(main_cf, use, section, where)


def _search_findings(
    main_cf: MainCf, use: Use, section: MapSection, where: str
) -> Iterator[Finding]:
    delimiter = main_cf.value("recipient_delimiter")
    if (
        use.keys in (Keys.ADDRESS, Keys.TRANSPORT, Keys.ACCESS)
        and section.recipient_delimiter != delimiter
    ):
        problem = (
            f"main.cf has recipient_delimiter = {delimiter or '(none)'}, "
            f'the map has "{section.recipient_delimiter}"'
        )
        yield Finding(
            Level.FAULT,
            "recipient_delimiter",
            where,
            problem,
            f'[map.{use.map}] recipient_delimiter = "{delimiter}"',
        )
    special = main_cf.enabled("owner_request_special")
    if (
        use.keys in (Keys.ADDRESS, Keys.TRANSPORT, Keys.ACCESS)
        and "-" in delimiter
        and section.owner_request_special is not special
    ):
        remedy = f"[map.{use.map}] owner_request_special = {str(special).lower()}"
        yield Finding(
            Level.FAULT,
            "owner_request_special",
            where,
            "owner-list and list-request would be split otherwise",
            remedy,
        )
    yield from _parent_findings(main_cf, use, section, where)
    if use.parameter.propagates:
        words = split_list(main_cf.value("propagate_unmatched_extensions").lower())
        wanted = use.parameter.propagates in words
        if section.propagate_unmatched_extensions is not wanted:
            remedy = f"[map.{use.map}] propagate_unmatched_extensions = {str(wanted).lower()}"
            yield Finding(
                Level.FAULT,
                "propagation",
                where,
                "extensions would not go on to results as Postfix does it",
                remedy,
            )
    local = local_domains(main_cf)
    if use.keys is Keys.ADDRESS and local is not None:
        missing = [
            name for name in local if name not in section.local_domains and not name.startswith("[")
        ]
        if missing:
            problem = (
                f"the map does not know the local domains {', '.join(missing)}, whose "
                "users Postfix also looks up by bare name"
            )
            yield Finding(
                Level.WARNING,
                "local_domains",
                where,
                problem,
                f"add them to [map.{use.map}] local_domains",
            )


def _parent_findings(
    main_cf: MainCf, use: Use, section: MapSection, where: str
) -> Iterator[Finding]:
    if use.keys not in (Keys.TRANSPORT, Keys.ACCESS, Keys.HELO, Keys.DOMAIN):
        return
    wanted = use.parameter.parent_style in split_list(
        main_cf.value("parent_domain_matches_subdomains")
    )
    if section.parent_domain_matches_subdomains is not wanted:
        parents = "example.com" if wanted else ".example.com"
        problem = (
            f"for a.example.com Postfix would also look up {parents} "
            f"({use.parameter.parent_style}), and the map does not"
        )
        remedy = f"[map.{use.map}] parent_domain_matches_subdomains = {str(wanted).lower()}"
        yield Finding(Level.FAULT, "parent_domains", where, problem, remedy)
