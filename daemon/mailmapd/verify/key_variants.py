"""Edge cases: for real addresses and domains, the keys that go wrong first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from mailmapd.verify.address_forms import external

_FIXED = (
    b"nobody@nowhere.invalid",
    b"nobody+ext@nowhere.invalid",
    b"nowhere.invalid",
    b"user@[127.0.0.1]",
    b"user@sub.sub.nowhere.invalid",
    b"double-bounce@nowhere.invalid",
    b"<>",
    b"root",
)


def address_variants(address: bytes) -> Iterator[bytes]:
    """Yield variants of an address, in the external form in which Postfix asks."""
    local, _, domain = address.rpartition(b"@")
    if not local or not domain:
        return
    at = b"@" + domain
    yield from (
        local + b"+ext" + at,
        local + b"+" + at,
        local + b"+a+b" + at,
        local + b"-ext" + at,
        local + b"_ext" + at,
    )
    yield from (local.upper() + b"@" + domain.upper(), local.title() + b"+Ext" + at)
    yield from (
        b"no-such-" + local + at,
        b"no-such-" + local + b"+ext" + at,
        local + b"@sub." + domain,
        local + b"@" + domain + b".",
    )
    yield from (
        b"postmaster+ext" + at,
        b"owner-" + local + at,
        local + b"-request" + at,
        b"+" + local + at,
    )
    special = (
        b"a b",
        b"a@b",
        b'a"b',
        b"a\\b",
        b"a'b",
        b"a%b",
        b"a,b",
        b".dot",
        b"dot.",
        b"a..b",
        local + b" x",
        local + b"+e x",
        b"%u",
        b"%%",
    )
    for text in special:
        yield external(text + at)
    yield "zoë".encode() + at
    yield b"x" * 250 + at
    yield local


def domain_variants(domain: bytes) -> Iterator[bytes]:
    """Yield variants of a domain, and keys that hold it."""
    yield from (
        domain.upper(),
        b"sub." + domain,
        b"a.b." + domain,
        domain + b".",
        b"x" + domain,
        b"." + domain,
        external(b"@" + domain),
    )
    yield domain.partition(b".")[2]
    yield from (b"no-such-user@" + domain, b"no-such-user+ext@" + domain, b"postmaster@" + domain)


def variants(addresses: Iterable[bytes], domains: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the edge cases of a few addresses and domains, and those that need neither."""
    yield from _FIXED
    yield b"*"
    for address in addresses:
        yield from address_variants(address)
    for domain in domains:
        yield from domain_variants(domain)
