"""Address extensions.

``user+ext@example.com`` is ``user@example.com`` with the extension ``+ext`` (strip_addr(3),
split_addr(3)).
"""

from __future__ import annotations

_NEVER_SPLIT = (b"postmaster", b"mailer-daemon", b"double-bounce")


def strip_extension(
    address: bytes, delimiters: bytes, owner_request_special: bool
) -> tuple[bytes, bytes] | None:
    """Return the internal address without its extension, and the extension with its delimiter; None when it has none.

    The first character of the local part that is one of the delimiters splits it, unless it comes
    first. Postmaster, mailer-daemon and double-bounce are never split; nor, when ``-`` is a
    delimiter and `owner_request_special` is set, are ``owner-list`` and ``list-request``.
    """
    local, at, domain = address.rpartition(b"@")
    if not at:
        local, domain = address, b""
    found = [position for delimiter in delimiters if (position := local.find(delimiter)) >= 0]
    if not found or not (split := min(found)):
        return None
    lower = local.lower()
    if lower in _NEVER_SPLIT:
        return None
    if (
        owner_request_special
        and b"-" in delimiters
        and (lower.startswith(b"owner-") or _is_request(lower))
    ):
        return None
    return local[:split] + at + domain, local[split:]


def _is_request(lower: bytes) -> bool:
    return len(lower) > len(b"-request") and lower.endswith(b"-request")
