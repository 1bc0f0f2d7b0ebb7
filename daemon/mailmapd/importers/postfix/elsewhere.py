"""Uses that an import leaves alone, with the reason: tables of other kinds, unknown parameters, other instances."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable, Iterator

from mailmapd.errors import ConfigError
from mailmapd.formats.main_cf import MainCf
from mailmapd.formats.map_list import Member, bundle_content, parse_members, split_list
from mailmapd.formats.master_cf import Service
from mailmapd.importers.postfix.changes import Refusal
from mailmapd.importers.postfix.memcache import why_not_its_backup

_REASONS = {
    "sqlite": "reads a file on this host; an import moves what asks MySQL",
    "pgsql": "asks PostgreSQL, which mailmapd does not speak",
    "ldap": "asks LDAP, which mailmapd does not speak",
    "mongodb": "asks MongoDB, which mailmapd does not speak",
    "nis": "asks NIS, which mailmapd does not speak",
}
_PROXYMAP = ("proxy_read_maps", "proxy_write_maps")
"""Lists of what proxymap(8) may open: they ask for nothing themselves."""

_OF_A_PATCH = ("virtual_mailbox_limit_maps", "virtual_maildir_limit_message_maps")
"""Parameters of the VDA patch, which many guides set although few a Postfix has it: virtual(8) reads them."""

_REFERENCE = re.compile(r"\$[({]?\s*(\w+)")


def left_alone(
    main_cf: MainCf, services: Iterable[Service], known: Collection[str]
) -> Iterator[Refusal]:
    """Yield every use of a database that no import can move. Raises ConfigError when a value cannot be expanded.

    `known` are the parameters whose tables may move: what they say is told of each of them, and
    what a parameter of the administrator's own says only if no other one refers to it.
    """
    texts = [entry.value for name, entry in main_cf.entries.items() if name not in _PROXYMAP]
    for service in services:
        texts += [text for name, text in service.overrides.items() if name not in _PROXYMAP]
    referred_to = {name for text in texts for name in _REFERENCE.findall(text)}
    for name, entry in main_cf.entries.items():
        where = f"main.cf line {entry.line}: {name}"
        if name in known:
            yield from _others(main_cf, where, name)
        elif name not in _PROXYMAP and name not in referred_to:
            yield from _unknown(main_cf, where, name, known)
    for service in services:
        view = main_cf.with_overrides(service.overrides)
        for name in service.overrides:
            if name in known:
                yield from _others(view, service.where(name), name)
            elif name not in _PROXYMAP and name not in referred_to:
                yield from _unknown(view, service.where(name), name, known)


def other_instances(main_cf: MainCf) -> list[str]:
    """Return the configuration directories of the further instances that postmulti(1) runs."""
    return split_list(main_cf.value("multi_instance_directories"))


def _unknown(main_cf: MainCf, where: str, name: str, known: Collection[str]) -> Iterator[Refusal]:
    try:
        members = list(_members(main_cf, name))
    except ConfigError:
        return  # such as smtpd_expansion_filter, in which "$" is a character like any other
    types = sorted({member.type for member in members} & {"mysql", *_REASONS})
    if not types:
        return
    problem = f"names {', '.join(f'{kind}:' for kind in types)}, but "
    if name in main_cf.default_names():
        yield Refusal(where, f"{problem}it is not known what Postfix does with it")
        return
    if name in _OF_A_PATCH:
        yield Refusal(
            where, f"{problem}Postfix itself has no such parameter: it is of the VDA patch"
        )
        return
    near = difflib.get_close_matches(name, known, 1)
    hint = f"; did you mean {near[0]}?" if near else ""
    yield Refusal(where, f"{problem}Postfix has no parameter of that name{hint}")


def _others(view: MainCf, where: str, name: str) -> Iterator[Refusal]:
    for member in _members(view, name):
        if member.type in _REASONS:
            yield Refusal(where, f"{member.text}: {_REASONS[member.type]}")
        elif member.type == "memcache":
            reason = why_not_its_backup(member, view.value("queue_directory"))
            if reason:
                yield Refusal(where, f"{member.text}: {reason}")


def _members(view: MainCf, name: str) -> Iterator[Member]:
    """Yield every table of a value, those inside of bundles and braces, too."""
    pending = list(parse_members(view.value(name)))
    while pending:
        member = pending.pop(0)
        if member.text.startswith("{"):
            pending = [*parse_members(bundle_content(member.text)), *pending]
        elif member.inner:
            pending = [*member.inner, *pending]
        else:
            yield member
