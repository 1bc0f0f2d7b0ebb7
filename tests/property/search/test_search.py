from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mailmapd.search import PRESETS, Search, propagate
from mailmapd.search.address_list import addresses, internal_form
from mailmapd.search.extension import strip_extension
from mailmapd.search.local_part import quote, read, unquote

CHARACTERS = st.sampled_from([*b'ab+-=.@ "\\()<>,;:[]%!\r\t', 0x07, 0xC3, 0xA9])
TEXT = st.lists(CHARACTERS, max_size=24).map(bytes)
LOCAL = st.lists(CHARACTERS, min_size=1, max_size=16).map(bytes)
DOMAIN = st.from_regex(r"[a-z]{1,8}(\.[a-z]{1,8}){0,3}", fullmatch=True).map(str.encode)
DELIMITERS = st.sampled_from([b"", b"+", b"-", b"+-", b"=-+"])
PLAIN = st.from_regex(r"[a-z0-9]{1,8}(\.[a-z0-9]{1,8})?", fullmatch=True).map(str.encode)


@given(LOCAL, DOMAIN)
def test_quoting_loses_nothing(local: bytes, domain: bytes) -> None:
    """Every internal address comes back from its external form, which is known for one."""
    if local.startswith(b"@"):
        local = b"x" + local  # a source route is another thing
    address = local + b"@" + domain
    assert unquote(quote(address)) == address
    assert read(quote(address)) == (address, True)


@given(TEXT, DELIMITERS, st.booleans())
def test_address_and_extension_make_the_whole(
    address: bytes, delimiters: bytes, special: bool
) -> None:
    """What is taken off begins with a delimiter, and put back it gives the address again; the rest has a local part."""
    stripped = strip_extension(address, delimiters, special)
    if stripped is None:
        return
    bare, extension = stripped
    local, at, domain = bare.rpartition(b"@") if b"@" in address else (bare, b"", b"")
    assert local + extension + at + domain == address
    assert extension[0] in delimiters
    assert local
    assert not set(local) & set(delimiters)


@given(TEXT, st.sampled_from(PRESETS), DELIMITERS, st.booleans(), st.booleans())
def test_the_first_key_is_the_clients(
    key: bytes, preset: str, delimiters: bytes, parents: bool, external_only: bool
) -> None:
    """Whatever is asked, there are no empty and no equal keys, and the key itself is among them,
    first if it is an external form.
    """
    search = Search.compile(
        preset,
        recipient_delimiter=delimiters,
        parent_domain_matches_subdomains=parents,
        external_only=external_only,
    )
    keys = [search_key.key for search_key in search.keys(key)]
    assert len(set(keys)) == len(keys)
    assert b"" not in keys
    if key:
        assert key in keys
    if key and (preset in ("exact", "domain") or read(key)[1]):
        assert keys[0] == key


@given(LOCAL, DOMAIN, DELIMITERS)
def test_both_requests_find_the_same(local: bytes, domain: bytes, delimiters: bytes) -> None:
    """Postfix's second request, in internal form, has the same keys as its first, but where it
    looks like an external form itself.
    """
    internal = local + b"@" + domain
    if read(internal)[1] or internal.startswith(b"@"):
        return
    search = Search.compile(
        ["full", "noext", "at_domain", "domain", "localpart_at"], recipient_delimiter=delimiters
    )
    assert search.keys(quote(internal)) == search.keys(internal)


@given(TEXT, TEXT)
def test_without_extension_nothing_changes(value: bytes, key: bytes) -> None:
    """A result found for the full key is never touched."""
    assert propagate(value, key, b"", enabled=True) is value
    assert propagate(value, key, b"", enabled=False) is value


@given(
    st.lists(st.tuples(PLAIN, DOMAIN), min_size=1, max_size=4),
    st.sampled_from([b", ", b",", b" ", b",\n\t"]),
    PLAIN,
)
def test_every_recipient_gets_the_extension(
    recipients: list[tuple[bytes, bytes]], separator: bytes, extension: bytes
) -> None:
    """Each address of a list gets the extension, in order, however the list is separated."""
    value = separator.join([local + b"@" + domain for local, domain in recipients])
    result = propagate(
        value, b"user+" + extension + b"@example.com", b"+" + extension, enabled=True
    )
    expected = [b"%b+%b@%b" % (local, extension, domain) for local, domain in recipients]
    assert [internal_form(tokens) for tokens in addresses(result)] == expected


@given(TEXT)
def test_any_text_can_be_parsed(text: bytes) -> None:
    """No text, however broken, is an error or an endless loop, and no address is empty of tokens."""
    assert all(addresses(text))


@given(TEXT, st.binary(max_size=8), st.booleans())
def test_any_result_can_be_propagated(value: bytes, extension: bytes, enabled: bool) -> None:
    """No result of a database, however broken, makes propagation fail."""
    extension = b"+" + extension.replace(b"\0", b"")
    assert isinstance(
        propagate(value, quote(b"user" + extension + b"@example.com"), extension, enabled), bytes
    )
