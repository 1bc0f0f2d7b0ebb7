from __future__ import annotations

import pytest

from mailmapd.config.schema import MapSection
from mailmapd.verify.compared_values import (
    addresses_of_others,
    asked_forms,
    compared_columns,
    odd_forms,
)
from mailmapd.verify.key_sources import Keys
from mailmapd.verify.run import choose_keys


@pytest.mark.parametrize(
    ("query", "columns"),
    [
        ("SELECT goto FROM alias WHERE address='%s' AND active = '1'", ["address"]),
        ("SELECT 1 FROM t WHERE `t`.`Name` = LOWER('%s') OR other LIKE '%d'", ["name", "other"]),
        ("SELECT act FROM hc WHERE '%s' REGEXP BINARY pat LIMIT 1", ["pat"]),
        ("SELECT 1 FROM t WHERE '%u' = t.local AND domain IN ('%d')", ["domain", "local"]),
        ("SELECT 1 FROM t WHERE a = 'x'", []),
    ],
)
def test_columns_compared_with_the_key(query: str, columns: list[str]) -> None:
    """The columns that are compared with the key, or a part of it, are found on either side of the comparison."""
    assert compared_columns(query) == columns


@pytest.mark.parametrize(
    ("value", "forms"),
    [
        (b"192.0.2", [b"192.0.2.7"]),
        (b"192.", [b"192.7.7.7"]),
        (b"192.0.2.1", []),
        (b"2001:db8:1", [b"2001:db8:1::7"]),
        (b".example.com", [b"sub.example.com", b"user@sub.example.com"]),
        (b"@example.com", [b"someone@example.com"]),
        (b"user@", [b"user@nowhere.invalid"]),
        (b"[smtp.relay.example]:587", []),
        (b"user@example.com", []),
    ],
)
def test_form_that_is_asked(value: bytes, forms: list[bytes]) -> None:
    """A row is found by the key that Postfix asks, such as the address that a network's row is for."""
    assert list(asked_forms(value)) == forms


def test_odd_forms_are_other_keys() -> None:
    """Capitals, a text around the value, and bytes that are no UTF-8 are among the keys."""
    forms = list(odd_forms(["Größe".encode()]))
    assert "Gr\xf6\xdfe".encode("latin-1") in forms
    assert "Subject: a Größe text".encode() in forms
    assert len(set(forms)) == len(forms)
    assert b"abc\xe4" in odd_forms([b"abc"])


@pytest.mark.parametrize("limit", [0, 100])
def test_existing_keys_are_asked(limit: int) -> None:
    """The values themselves are among the keys of every search, with and without a limit."""
    values = [b"[smtp.relay.example]:587", b"192.0.2"]
    for search in ("exact", "access", "transport", "domain"):
        chosen = choose_keys(
            MapSection(tables=("a",), search=search), Keys(), [], limit, compared=values
        )
        assert {*values, b"192.0.2.7"} <= set(chosen)


def test_addresses_under_other_names() -> None:
    """Each user of a domain is named under each of its aliases, whatever the case of the letters."""
    pairs = {(b"b.test", b"A.test"), (b"c.test", b"a.test"), (b"d.test", b"none.test")}
    addresses = [b"u@a.TEST", b"v@x.test"]
    assert list(addresses_of_others(pairs, addresses)) == [b"u@b.test", b"u@c.test"]
