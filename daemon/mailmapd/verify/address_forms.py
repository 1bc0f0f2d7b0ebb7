"""The two forms of an address, written after quote_822_local(3), strip_addr(3) and split_addr(3).

This module knows on purpose nothing of `mailmapd.search`: what it says is compared with what that package does.
"""

from __future__ import annotations

_QUOTED = frozenset(b'()<>@,;:\\"[] ')


def external(address: bytes) -> bytes:
    """Return an internal-form address with its local part quoted where that is needed."""
    local, at, domain = address.rpartition(b"@")
    if not at:
        local, domain = address, b""
    return _quote_local(local) + at + domain


def external_local(local: bytes) -> bytes:
    """Return a whole text quoted as a local part, even when it holds an ``@``."""
    return _quote_local(local)


def _quote_local(local: bytes) -> bytes:
    plain = local and not local.startswith(b".") and not local.endswith(b".") and b".." not in local
    if plain and not any(byte in _QUOTED or byte < 32 or byte == 127 for byte in local):
        return local
    return b'"' + local.replace(b"\\", b"\\\\").replace(b'"', b'\\"').replace(b"\r", b"\\\r") + b'"'


def internal(address: bytes) -> bytes:
    """Return an external-form address without its quotes and backslashes."""
    local = bytearray()
    quoted, at, index = False, None, 0
    while index < len(address):
        byte = address[index : index + 1]
        index += 1
        if byte == b'"':
            quoted = not quoted
            continue
        if byte == b"\\":
            byte = address[index : index + 1] or b""
            index += 1
        elif byte == b"@" and not quoted:
            at = (len(local), index - 1)
        local += byte
    return bytes(local) if at is None else bytes(local[: at[0]]) + address[at[1] :]


def without_extension(
    address: bytes, delimiters: bytes, owner_request_special: bool
) -> tuple[bytes, bytes] | None:
    """Return an internal-form address without its extension, and the extension with its delimiter.

    None when there is none to strip.
    """
    local, at, domain = address.rpartition(b"@")
    if not at:
        local, domain = address, b""
    lowered = local.lower()
    if lowered in (b"postmaster", b"mailer-daemon", b"double-bounce"):
        return None
    special = lowered.startswith(b"owner-") or (
        lowered.endswith(b"-request") and len(local) > len(b"-request")
    )
    if special and owner_request_special and b"-" in delimiters:
        return None
    places = [place for delimiter in delimiters if (place := local.find(bytes([delimiter]))) >= 0]
    cut = min(places, default=-1)
    if cut <= 0:
        return None
    return local[:cut] + at + domain, local[cut:]
