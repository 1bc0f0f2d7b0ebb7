from __future__ import annotations

import pytest

from mailmapd.search import PRESETS, STRATEGY_NAMES, Search


def keys(search: Search, key: bytes) -> list[bytes]:
    return [search_key.key for search_key in search.keys(key)]


def test_exact_asks_for_the_key_alone() -> None:
    """The search 'exact' splits nothing, and asks nothing for an empty key."""
    search = Search.compile("exact", recipient_delimiter=b"+")
    assert keys(search, b"user+ext@example.com") == [b"user+ext@example.com"]
    assert keys(search, b"") == []


@pytest.mark.parametrize(
    ("parents", "expected"),
    [
        (True, [b"a.example.com", b"example.com", b"com"]),
        (False, [b"a.example.com", b".example.com", b".com"]),
    ],
)
def test_domain_walks_to_the_last_label(parents: bool, expected: list[bytes]) -> None:
    """Parents are asked with a leading dot exactly if subdomains do not match them by themselves."""
    assert (
        keys(Search.compile("domain", parent_domain_matches_subdomains=parents), b"a.example.com")
        == expected
    )


@pytest.mark.parametrize(
    ("name", "parents", "expected"),
    [
        (b"a.b.", True, [b"a.b.", b"b."]),
        (b"a.b.", False, [b"a.b.", b".b.", b"."]),
        (b".a.b", True, [b".a.b", b"b"]),
        (b"[192.0.2.1]", True, [b"[192.0.2.1]", b"0.2.1]", b"2.1]", b"1]"]),
        (b"com", True, [b"com"]),
        (b"", True, []),
    ],
)
def test_odd_names_are_walked_as_strings(name: bytes, parents: bool, expected: list[bytes]) -> None:
    """Dots at either end and address literals get no special care, as in match_hostname."""
    assert (
        keys(Search.compile("domain", parent_domain_matches_subdomains=parents), name) == expected
    )


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        (b"192.0.2.1", [b"192.0.2.1", b"192.0.2", b"192.0", b"192"]),
        (b"0.0.0.0", [b"0.0.0.0", b"0.0.0", b"0.0", b"0"]),
        (b"0.1.2.3", [b"0.1.2.3", b"1.2.3", b"2.3", b"3"]),
        (b"192.0.2.256", [b"192.0.2.256", b"0.2.256", b"2.256", b"256"]),
        (b"2001:db8::1", [b"2001:db8::1", b"2001:db8:", b"2001:db8", b"2001"]),
        (b"::ffff:192.0.2.1", [b"::ffff:192.0.2.1", b"::ffff", b":"]),
        (b"mail.example.com", [b"mail.example.com", b"example.com", b"com"]),
        (b"unknown", [b"unknown"]),
        (b"<>", [b"<>"]),
        (b"", []),
    ],
)
def test_access_serves_names_and_networks(key: bytes, expected: list[bytes]) -> None:
    """check_client_access asks for a name and its parents, or an address and its networks.

    The null sender is a name.
    """
    assert keys(Search.compile("access"), key) == expected


def test_access_serves_mail_addresses() -> None:
    """check_sender_access and check_recipient_access ask for the address, the domain with its
    parents, and the local part with @.
    """
    found = Search.compile("access", recipient_delimiter=b"+").keys(b"user+ext@sub.example.com")
    assert [(key.key, key.extension) for key in found] == [
        (b"user+ext@sub.example.com", b""),
        (b"user@sub.example.com", b"+ext"),
        (b"sub.example.com", b""),
        (b"example.com", b""),
        (b"com", b""),
        (b"user+ext@", b""),
        (b"user@", b"+ext"),
    ]


def test_helo_never_asks_for_networks() -> None:
    """check_helo_access takes an IP address in HELO for a name without parents, and a mail address for a name."""
    search = Search.compile("helo")
    assert keys(search, b"192.0.2.1") == [b"192.0.2.1"]
    assert keys(search, b"a.example.com") == [b"a.example.com", b"example.com", b"com"]
    assert keys(search, b"user@a.test") == [b"user@a.test", b"test"]


def test_transport_asks_for_domains_and_for_the_star() -> None:
    """transport_maps is asked without a local part, and for '*' as it is."""
    search = Search.compile(
        "transport", recipient_delimiter=b"+", parent_domain_matches_subdomains=False
    )
    expected = [
        b"user+x@a.example.com",
        b"user@a.example.com",
        b"a.example.com",
        b".example.com",
        b".com",
    ]
    assert keys(search, b"user+x@a.example.com") == expected
    assert keys(search, b"*") == [b"*"]


def test_local_domains_are_asked_for_the_local_part() -> None:
    """A domain on local_domains is recognised in any case and with a dot at its end; two dots make it another one."""
    search = Search.compile("address", recipient_delimiter=b"+", local_domains=[b"Local.example"])
    assert keys(search, b"user+x@LOCAL.example.") == [
        b"user+x@LOCAL.example.",
        b"user@LOCAL.example.",
        b"user+x",
        b"user",
        b"@LOCAL.example.",
    ]
    assert keys(search, b"user@local.example..") == [b"user@local.example..", b"@local.example.."]


def test_quoted_local_parts_are_asked_in_both_forms() -> None:
    """Each step of a quoted address asks for the external form first, then for the internal one."""
    found = keys(Search.compile("address", recipient_delimiter=b"+"), b'"a b+c d"@example.com')
    assert found == [
        b'"a b+c d"@example.com',
        b"a b+c d@example.com",
        b'"a b"@example.com',
        b"a b@example.com",
        b"@example.com",
    ]


def test_mappings_are_asked_in_the_form_of_the_request() -> None:
    """With external_only, Postfix's first request finds external forms alone, and its second one internal forms."""
    search = Search.compile("address", recipient_delimiter=b"+", external_only=True)
    assert keys(search, b'"a b+c"@example.com') == [
        b'"a b+c"@example.com',
        b'"a b"@example.com',
        b"@example.com",
    ]
    assert keys(search, b"a b+c@example.com") == [
        b"a b+c@example.com",
        b"a b@example.com",
        b"@example.com",
    ]


def test_a_bare_domain_is_never_split() -> None:
    """virtual_alias_domains = $virtual_alias_maps asks for domains.

    Info-systems.example must not find the alias "info".
    """
    search = Search.compile("address", recipient_delimiter=b"-")
    assert keys(search, b"info-systems.example") == [b"info-systems.example"]
    assert keys(search, b"info-list") == [b"info-list", b"info"]


def test_the_null_address_is_asked_as_two_quotes() -> None:
    """Postfix asks for the null address as "", and for no part of it."""
    assert keys(Search.compile("address", recipient_delimiter=b"+"), b'""') == [b'""']


def test_a_list_takes_its_steps_alone() -> None:
    """A list of names asks what it names, in Postfix's order, not in the list's."""
    search = Search.compile(
        ["pddms", "domain", "localpart_at_if_local", "noext", "full"],
        recipient_delimiter=b"+",
        local_domains=[b"a.b"],
    )
    assert keys(search, b"u+e@a.b") == [b"u+e@a.b", b"u@a.b", b"u+e@", b"u@", b"a.b", b".b"]


@pytest.mark.parametrize(
    ("strategy", "remedy"),
    [
        ("adress", "address"),
        (["full", "parent"], "localpart_if_local"),
        ([], "full"),
        (["full", "domain", "pdms", "pddms"], "keep pdms"),
        (["full", "pdms"], "add it"),
    ],
)
def test_a_wrong_strategy_says_what_to_write(strategy: str | list[str], remedy: str) -> None:
    """A mistake in a strategy is a ValueError that names what exists."""
    with pytest.raises(ValueError, match=remedy):
        Search.compile(strategy)


def test_the_names_are_those_of_the_manual() -> None:
    """The presets and steps have the documented names."""
    assert PRESETS == ("exact", "domain", "address", "access", "helo", "transport")
    assert set(STRATEGY_NAMES) == {
        *("full", "noext", "localpart_if_local", "localpart_at_if_local", "at_domain"),
        *("domain", "pdms", "pddms", "localpart_at"),
    }


@pytest.mark.parametrize(
    "domain",
    [b"[192.0.2.2]", b"[192.0.2.2].", b"[IPv6:2001:DB8:0:0::2]", b"[2001:db8::2]"],
)
def test_own_addresses_are_local_however_they_are_written(domain: bytes) -> None:
    """The literal of an own address is a local domain, in every spelling of the same address."""
    search = Search.compile("address", local_domains=[b"[192.0.2.2]", b"[ipv6:2001:db8::2]"])
    assert b"postmaster" in keys(search, b"postmaster@" + domain)


@pytest.mark.parametrize("domain", [b"[192.0.2.3]", b"[192.0.2.2", b"192.0.2.2", b"[]"])
def test_other_literals_are_not_local(domain: bytes) -> None:
    """Another address, or what is no literal, is no local domain."""
    search = Search.compile("address", local_domains=[b"[192.0.2.2]"])
    assert b"postmaster" not in keys(search, b"postmaster@" + domain)
