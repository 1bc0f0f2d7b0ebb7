"""Mail addresses: the full address, without its extension, and ever smaller parts of it (mail_addr_find(3)).

For a table of fixed strings such as ``mysql:`` Postfix asks, in this order and as far as the strategy says:

    full                    user+ext@sub.example.com
    noext                   user@sub.example.com
    localpart_if_local      user+ext, user              if the domain is one of local_domains
    localpart_at_if_local   user+ext@, user@            the same
    at_domain               @sub.example.com
    domain                  sub.example.com   with pdms also example.com, com; with pddms also .example.com, .com
    localpart_at            user+ext@, user@

Over a socket Postfix takes us for a table of patterns and asks only for the full address: in
external form first, and, when that is not found, in internal form if the two differ. The first
request must therefore find whatever any of the keys would find.

virtual(5) and canonical(5) mappings ask with the external form alone, everything else with both (`Forms`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from ipaddress import ip_address

from mailmapd.search.domain import name_and_parents
from mailmapd.search.extension import strip_extension
from mailmapd.search.local_part import is_dot_string, quote, read
from mailmapd.search.search_key import SearchKey
from mailmapd.template.fold import fold

_HOST_NAME = re.compile(rb"(?:[A-Za-z0-9_-]+\.)+[A-Za-z0-9-]+").fullmatch


class Forms(Enum):
    """The forms of a local part that are asked for, in order."""

    EXTERNAL_FIRST = "external, then internal"
    EXTERNAL = "external"
    INTERNAL = "internal"


_IPV6_PREFIX = b"ipv6:"

_new = tuple.__new__  # half the time of SearchKey's own constructor


@dataclass(frozen=True, slots=True)
class Steps:
    """The strategy: which steps are taken."""

    full: bool = False
    noext: bool = False
    localpart_if_local: bool = False
    localpart_at_if_local: bool = False
    at_domain: bool = False
    domain: bool = False
    pdms: bool = False
    pddms: bool = False
    localpart_at: bool = False


class AddressSearch:
    """The keys of one strategy."""

    def __init__(
        self,
        steps: Steps,
        *,
        delimiters: bytes,
        owner_request_special: bool,
        local_domains: frozenset[bytes],
        external_only: bool,
    ) -> None:
        self._steps = steps
        self._delimiters = delimiters
        self._owner_request_special = owner_request_special
        self._local_domains = local_domains.union([domain + b"." for domain in local_domains])
        self._local_addresses = frozenset(filter(None, map(_literal_address, local_domains)))
        self._external_only = external_only
        self._is_special = re.compile(b'["\\\\\x80-\xff' + re.escape(delimiters) + b"]").search
        self._is_short = steps.full and steps.at_domain and not (steps.domain or steps.localpart_at)

    def keys(self, address: bytes) -> tuple[SearchKey, ...]:
        """Return the keys for the address that a client sent, each once."""
        if self._is_short and self._is_special(address) is None:
            # The hot path: ASCII, neither an extension nor quotes, and a strategy whose only other
            # key is @domain. (An internal form
            # that would need quotes ends here too; it is asked only after its external form was not
            # found, with all of its keys.)
            local, at, domain = address.rpartition(b"@")
            if local and domain.lower() not in self._local_domains and domain[:1] != b"[":
                return (_new(SearchKey, (address, b"")), _new(SearchKey, (at + domain, b"")))
        keys: dict[bytes, SearchKey] = {}
        for key in self._all_keys(address):
            if key.key:
                keys.setdefault(key.key, key)
        return tuple(keys.values())

    def _all_keys(self, address: bytes) -> list[SearchKey]:
        internal, forms = self._read(address)
        bare, extension = self._without_extension(internal)
        steps = self._steps
        local, at, domain = internal.rpartition(b"@")
        locals_ = (
            [(local, b"")]
            if bare is None
            else [(local, b""), (local[: -len(extension)], extension)]
        )
        if at and is_dot_string(local) and not locals_[-1][0].endswith(b"."):
            forms = Forms.INTERNAL  # nothing needs quotes, so that both forms are one
        keys = _keys(internal, b"", forms) if steps.full else []
        if bare is not None:
            keys += _keys(bare, extension, forms)
        if not at:
            return keys
        if (steps.localpart_if_local or steps.localpart_at_if_local) and self._is_local(domain):
            if steps.localpart_if_local:
                keys += _local_parts(locals_, b"", forms)
            if steps.localpart_at_if_local:
                keys += _local_parts(locals_, b"@", forms)
        if steps.at_domain:
            keys.append(SearchKey(at + domain, b""))
        if steps.domain:
            names = name_and_parents(domain, steps.pdms) if steps.pdms or steps.pddms else (domain,)
            keys += [SearchKey(name, b"") for name in names]
        if steps.localpart_at:
            keys += _local_parts(locals_, b"@", forms)
        return keys

    def _read(self, address: bytes) -> tuple[bytes, Forms]:
        """Return the internal form of what the client sent, and the forms to ask for."""
        internal, external = read(address)
        if not self._external_only:
            return internal, Forms.EXTERNAL_FIRST
        return internal, Forms.EXTERNAL if external else Forms.INTERNAL

    def _without_extension(self, internal: bytes) -> tuple[bytes | None, bytes]:
        if not self._steps.noext:
            return None, b""
        if b"@" not in internal and _HOST_NAME(internal):
            # Postfix asks alias maps for bare domains, too (virtual_alias_domains =
            # $virtual_alias_maps), as exact strings. With '-' as
            # a delimiter, info-systems.example must not be found because there is an alias "info".
            return None, b""
        return strip_extension(internal, self._delimiters, self._owner_request_special) or (
            None,
            b"",
        )

    def _is_local(self, domain: bytes) -> bool:
        """Tell whether Postfix takes the domain for local, see resolve_local(3).

        One dot at its end does not matter, nor how an address in brackets is written.
        """
        if fold(domain) in self._local_domains:
            return True
        return domain[:1] == b"[" and _literal_address(domain) in self._local_addresses


def _literal_address(domain: bytes) -> bytes | None:
    """Return the packed address of ``[192.0.2.2]`` or ``[ipv6:2001:db8::2]``, None for anything else."""
    literal = domain.removesuffix(b".")
    if literal[:1] != b"[" or literal[-1:] != b"]":
        return None
    text = literal[1:-1]
    if text[: len(_IPV6_PREFIX)].lower() == _IPV6_PREFIX:
        text = text[len(_IPV6_PREFIX) :]
    try:
        return ip_address(text.decode("ascii")).packed
    except ValueError:
        return None


def _keys(
    internal: bytes, extension: bytes, forms: Forms, *, bare: bool = False
) -> list[SearchKey]:
    if forms is Forms.INTERNAL:
        return [SearchKey(internal, extension)]
    external = SearchKey(quote(internal, bare=bare), extension)
    return [external] if forms is Forms.EXTERNAL else [external, SearchKey(internal, extension)]


def _local_parts(
    local_parts: Sequence[tuple[bytes, bytes]], at: bytes, forms: Forms
) -> list[SearchKey]:
    return [
        key
        for local, extension in local_parts
        for key in _keys(local + at, extension, forms, bare=not at)
    ]
