"""Disagreements of main.cf, master.cf and mailmapd.toml, and tables that Postfix does not take from a socket."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from pathlib import Path

from mailmapd.check.finding import Finding, Level
from mailmapd.check.socket_paths import is_ours, path_findings, reach_findings
from mailmapd.check.socketmap_uses import Use, socketmap_uses
from mailmapd.config.schema import Config, MapSection
from mailmapd.formats.main_cf import MainCf, read_main_cf
from mailmapd.formats.map_list import parse_members, split_list
from mailmapd.formats.master_cf import Service, is_chrooted_by_default, read_master_cf
from mailmapd.importers.postfix.local_domains import local_domains
from mailmapd.importers.postfix.parameters import PARAMETERS, Folding, Keys

_LMTP = "virtual_transport = lmtp:unix:private/dovecot-lmtp"
_KEYS_AS = {
    Folding.UNICODE: "in lower case, if they are UTF-8",
    Folding.ASCII: "with ASCII in lower case",
    Folding.UTF8: "as they are, if they are UTF-8",
    Folding.NONE: "as they are",
}
_KEEPS_CASE = (Folding.UTF8, Folding.NONE)


def postfix_findings(config: Config, directory: Path) -> Iterator[Finding]:
    """Yield what is wrong between a Postfix instance and the configuration.

    Raises ConfigError when main.cf cannot be read.
    """
    main_cf = read_main_cf(directory)
    chrooted = is_chrooted_by_default(main_cf.value("compatibility_level"))
    services = read_master_cf(directory, chroot_by_default=chrooted)
    yield from _repeated(main_cf)
    yield from _virtual_agent(main_cf, services)
    yield from reach_findings(config, main_cf)
    queue = main_cf.value("queue_directory") or "/var/spool/postfix"
    told: set[tuple[str, str, str]] = set()
    for use in socketmap_uses(main_cf, services):
        if is_ours(use.table, config, queue):
            for finding in _all_findings(config, queue, services, use):
                what = (use.parameter.name, finding.code, finding.problem)
                if what not in told:  # of main.cf, or of another service with the same options
                    told.add(what)
                    yield finding


def _all_findings(
    config: Config, queue: str, services: tuple[Service, ...], use: Use
) -> Iterator[Finding]:
    readers = services if use.service is None else (use.service,)
    for code, problem, remedy in path_findings(config, queue, readers, use.parameter, use.table):
        yield Finding(Level.FAULT, code, use.where, problem, remedy)
    yield from _use_findings(config, use)


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


def _use_findings(config: Config, use: Use) -> Iterator[Finding]:
    where = use.where
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
        yield from _search_findings(use, section)
    yield from _folding_findings(config, use, section)


def _folding_findings(config: Config, use: Use, section: MapSection) -> Iterator[Finding]:
    """Yield a finding when the map folds keys that Postfix asks as they are, or the other way round."""
    wanted = use.parameter.folding
    if not use.settings.enabled("smtputf8_enable"):
        wanted = wanted.without_utf8()
    folds = any(config.tables[table].fold for table in section.tables)
    own = Folding(section.fold) if folds else Folding.NONE
    if (own in _KEEPS_CASE) == (wanted in _KEEPS_CASE):
        return  # they differ beyond ASCII alone
    problem = f"Postfix would ask for keys {_KEYS_AS[wanted]}, and the map asks {_KEYS_AS[own]}"
    remedy = f'[map.{use.map}] fold = "{wanted.value}"'
    yield Finding(Level.FAULT, "fold", use.where, problem, remedy)


def _search_findings(use: Use, section: MapSection) -> Iterator[Finding]:
    main_cf, where = use.settings, use.where
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
    yield from _parent_findings(use, section)
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


def _parent_findings(use: Use, section: MapSection) -> Iterator[Finding]:
    if use.keys not in (Keys.TRANSPORT, Keys.ACCESS, Keys.HELO, Keys.DOMAIN):
        return
    wanted = use.parameter.parent_style in split_list(
        use.settings.value("parent_domain_matches_subdomains")
    )
    if section.parent_domain_matches_subdomains is not wanted:
        parents = "example.com" if wanted else ".example.com"
        problem = (
            f"for a.example.com Postfix would also look up {parents} "
            f"({use.parameter.parent_style}), and the map does not"
        )
        remedy = f"[map.{use.map}] parent_domain_matches_subdomains = {str(wanted).lower()}"
        yield Finding(Level.FAULT, "parent_domains", use.where, problem, remedy)
