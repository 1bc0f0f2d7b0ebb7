"""The keys that Postfix asks a table of fixed strings for, in its order.

The old way, written after its sources a second time.

    exact       the key
    domain      match_hostname(3): the name, then its parents
    address     mail_addr_find(3): full, without extension, user names in local domains, @domain
    access      check_mail_access: full, without extension, domain and parents, user@; check_domain_access, …
    helo        check_domain_access
    transport   transport_lookup: full, without extension, domain and parents

Each step is a list of (key, stripped extension); a step's keys are asked in every table before the next key.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Iterator
from functools import cache
from typing import NamedTuple

from mailmapd.config.schema import MapSection
from mailmapd.plan.own_addresses import own_literals
from mailmapd.verify.address_forms import external, external_local, internal, without_extension

_DOMAIN = re.compile(rb"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)+").fullmatch


class Step(NamedTuple):
    """One key, and the extension that was stripped to get it."""

    key: bytes
    extension: bytes


def old_steps(section: MapSection, key: bytes) -> list[Step]:
    """Return the steps for a key in the external form in which Postfix asks first; each key once."""
    steps: dict[bytes, Step] = {}
    for step in _steps(section, key):
        if step.key:
            steps.setdefault(step.key, step)
    return list(steps.values())


def _steps(section: MapSection, key: bytes) -> Iterator[Step]:
    parents = section.parent_domain_matches_subdomains
    match section.search:
        case "address":
            yield from _address(section, key)
        case "transport":
            yield from _transport(section, key)
        case "access" if b"@" in key:
            yield from _transport(section, key)
            yield from _users(section, key, b"@")
        case "access" if _is_address(key):
            yield from _plain(_networks(key))
        case "helo" if _is_address(key):
            yield Step(key, b"")
        case "access" | "helo" | "domain":
            yield from _plain(_parents(key, parents))
        case _:
            yield Step(key, b"")


def _plain(keys: Iterable[bytes]) -> Iterator[Step]:
    return (Step(key, b"") for key in keys)


def _address(section: MapSection, key: bytes) -> Iterator[Step]:
    yield from _whole(section, key)
    domain = internal(key).rpartition(b"@")[2]
    if b"@" not in key:
        return
    if _is_local(section, domain):
        yield from _users(section, key, b"")
    yield Step(b"@" + domain, b"")


def _transport(section: MapSection, key: bytes) -> Iterator[Step]:
    yield from _whole(section, key)
    if b"@" in key:
        yield from _plain(
            _parents(internal(key).rpartition(b"@")[2], section.parent_domain_matches_subdomains)
        )


def _whole(section: MapSection, key: bytes) -> Iterator[Step]:
    """Yield the address with and without its extension. Alias maps are asked for a bare domain as it is."""
    whole = internal(key)
    as_it_is = b"@" not in key and section.propagate_unmatched_extensions is not None
    yield from _forms(section, whole, b"", key if as_it_is else external(whole))
    stripped = _stripped(section, whole)
    if stripped is not None:
        yield from _forms(section, *stripped, external(stripped[0]))


def _users(section: MapSection, key: bytes, end: bytes) -> Iterator[Step]:
    """Yield the user name with and without its extension, each with `end` behind it."""
    whole = internal(key)
    stripped = _stripped(section, whole)
    for address, extension in [(whole, b""), *([stripped] if stripped is not None else [])]:
        user = address.rpartition(b"@")[0]
        yield from _forms(section, user + end, extension, external_local(user) + end)


def _stripped(section: MapSection, whole: bytes) -> tuple[bytes, bytes] | None:
    if b"@" not in whole and _DOMAIN(whole):
        return None  # a bare domain comes from a list of domains, which has no extensions
    return without_extension(
        whole, section.recipient_delimiter.encode(), section.owner_request_special
    )


def _forms(section: MapSection, text: bytes, extension: bytes, quoted: bytes) -> Iterator[Step]:
    yield Step(quoted, extension)
    if section.propagate_unmatched_extensions is None:
        yield Step(text, extension)


def _is_local(section: MapSection, domain: bytes) -> bool:
    name = domain.decode("utf-8", "surrogateescape").casefold()
    local = {*section.local_domains, *_own_literals(section.own_addresses)}
    return name in local or name.removesuffix(".") in local


@cache
def _own_literals(words: tuple[str, ...]) -> list[str]:
    """Read the interfaces once for all keys."""
    return own_literals(words)


def _parents(name: bytes, plain: bool) -> Iterator[bytes]:
    """Yield the name and what follows each dot behind its first byte, with that dot unless `plain`."""
    while name:
        yield name
        at = name.find(b".", 1)
        if at < 0:
            return
        name = name[at + 1 :] if plain else name[at:]


def _is_address(key: bytes) -> bool:
    try:
        ipaddress.ip_address(key.decode("ascii"))
    except ValueError:
        return False
    return True


def _networks(key: bytes) -> Iterator[bytes]:
    separator = b":" if b":" in key else b"."
    yield key
    while separator in key:
        key = key.rpartition(separator)[0]
        yield key
