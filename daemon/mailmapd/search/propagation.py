"""Propagation: what becomes of an extension that was taken off to find the key (mail_addr_map(3), mail_addr_crunch(3)).

For a table of fixed strings Postfix finds ``user@example.com`` for ``user+ext@example.com`` and
adds ``+ext`` to each address of the result, if propagate_unmatched_extensions says so. It knows of
no extension when a socket answers, so it is added here:

    result of user@example.com       propagated                          not propagated
    a@example.net, b@example.net     a+ext@example.net,b+ext@example.net as it is
    a                                a+ext                               as it is
    @example.net                     as it is (same local part there)    user@example.net

Postfix completes the addresses afterwards, as it would have done before (origin, trailing dot).
``host!user`` and ``user%host`` are turned into ``user@host`` first, which is where Postfix would
add the extension; that assumes its defaults, swap_bangpath and allow_percent_hack. Only canonical
and virtual alias maps are mappings of this kind: results of other maps must not come here.
"""

from __future__ import annotations

import re

from mailmapd.search.address_list import Token, addresses, internal_form
from mailmapd.search.local_part import quote, quoted_string, read

_PLAIN = rb"[A-Za-z0-9!#$&'*+/=?^_`{}~.\x80-\xff-]+"
_PLAIN_ADDRESS = re.compile(_PLAIN + b"@" + _PLAIN).fullmatch
_PLAIN_DOMAIN = re.compile(b"@" + _PLAIN).fullmatch
_PLAIN_EXTENSION = re.compile(_PLAIN).fullmatch

_AT = Token("@", b"@")


def propagate(value: bytes, key: bytes, extension: bytes, enabled: bool) -> bytes:
    """Return the result as Postfix must see it, so that it ends with the recipients that ``mysql:`` would give.

    `key` is the address that the client asked for, `extension` what was taken off to find `value`.
    A value without any address is returned as it is: Postfix then complains about it as it would
    have done.
    """
    if not extension:
        return value
    if value.startswith(b"@"):
        if enabled and _PLAIN_DOMAIN(value):
            return value
        local = read(key)[0].rpartition(b"@")
        value = quote((local[0] if local[1] else local[2]).removesuffix(extension) + value)
    if not enabled:
        return value
    if _PLAIN_ADDRESS(value) and _PLAIN_EXTENSION(extension):
        local_part, _, domain = value.partition(b"@")
        return b"%b%b@%b" % (local_part, extension, domain)
    return b",".join([_extended(tokens, extension) for tokens in addresses(value)]) or value


def _extended(tokens: tuple[Token, ...], extension: bytes) -> bytes:
    """Return one address in external form, with the extension added to its local part."""
    kinds = [token.kind for token in tokens]
    if kinds[0] == "@" and ":" in kinds[:-1]:  # a source route, which Postfix drops
        tokens = tokens[kinds.index(":") + 1 :]
        kinds = [token.kind for token in tokens]
    if "@" not in kinds:
        if "!" in kinds:
            bang = kinds.index("!")
            tokens = (*tokens[bang + 1 :], _AT, *tokens[:bang])
        elif "%" in kinds:
            percent = _last(kinds, "%")
            tokens = (*tokens[:percent], _AT, *tokens[percent + 1 :])
        else:
            local = internal_form(tokens) + extension
            # Without quotes Postfix would turn user+50%off into user+50@off.
            return (
                quoted_string(local) if b"%" in local or b"!" in local else quote(local, bare=True)
            )
        kinds = [token.kind for token in tokens]
    at = _last(kinds, "@")
    return quote(internal_form(tokens[:at]) + extension + internal_form(tokens[at:]))


def _last(kinds: list[str], kind: str) -> int:
    return len(kinds) - 1 - kinds[::-1].index(kind)
