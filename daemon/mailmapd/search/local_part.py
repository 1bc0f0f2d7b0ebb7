"""Local parts in their two forms: quoted as in a message (external), and bare as Postfix keeps them (internal).

An external local part is a dot-string or a quoted-string: ``"john smith"@example.com`` is external,
``john smith@example.com`` internal. Most addresses look the same in both. Postfix asks its tables
with the external form. (quote_822_local(3))
"""

from __future__ import annotations

import re

_DOT_STRING = re.compile(
    rb'[^\x00-\x20()<>@,;:\\"\[\].\x7f]+(?:\.[^\x00-\x20()<>@,;:\\"\[\].\x7f]+)*'
).fullmatch
_NEEDS_BACKSLASH = re.compile(rb'(["\\\r])')


def quote(address: bytes, *, bare: bool = False) -> bytes:
    """Return the external form of an internal address. `bare` says that all of it is local part.

    A source route (``@relay:user@example.com``) stays as it is in front.
    """
    start = address.find(b":") + 1 if address.startswith(b"@") else 0
    end = len(address) if bare else address.rfind(b"@", start)
    if end < 0:
        end = len(address)
    local = address[start:end]
    if is_dot_string(local):
        return address
    return address[:start] + quoted_string(local) + address[end:]


def is_dot_string(local: bytes) -> bool:
    """Tell whether an internal local part needs no quotes."""
    return _DOT_STRING(local) is not None


def quoted_string(local: bytes) -> bytes:
    """Return an internal local part as a quoted-string, whether it needs quotes or not."""
    return b'"%b"' % _NEEDS_BACKSLASH.sub(rb"\\\1", local)


def unquote(address: bytes) -> bytes:
    """Return the internal form of an external address; what follows its last unquoted ``@`` stays as it is."""
    start = address.find(b":") + 1 if address.startswith(b"@") else 0
    internal = bytearray(address[:start])
    in_quotes = False
    domain_from = None
    position = start
    while position < len(address):
        char = address[position : position + 1]
        position += 1
        if char == b'"':
            in_quotes = not in_quotes
            continue
        if char == b"@" and not in_quotes:
            domain_from = (len(internal), position - 1)
        elif char == b"\\":
            char = address[position : position + 1]
            position += 1
        internal += char
    if domain_from is None:
        return bytes(internal)
    return bytes(internal[: domain_from[0]]) + address[domain_from[1] :]


def read(address: bytes) -> tuple[bytes, bool]:
    """Return the internal form of an address that Postfix sent, and whether it came in external form.

    An external form comes back when its internal form is quoted again. Anything else is internal
    already: to unquote it would make somebody else's address of it (``a"b@example.com`` is not
    ``ab@example.com``).
    """
    internal = unquote(address) if b'"' in address or b"\\" in address else address
    return (internal, True) if quote(internal) == address else (address, False)
