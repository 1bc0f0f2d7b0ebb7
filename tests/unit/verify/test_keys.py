"""Old searches, keys from tables and logs, and the reading of postmap's output."""

from __future__ import annotations

from pathlib import Path

import pytest

from mailmapd.config.schema import MapSection
from mailmapd.search import Search
from mailmapd.verify.key_sources import Keys, keys_of_mail_log
from mailmapd.verify.key_variants import variants
from mailmapd.verify.old_search import old_steps
from mailmapd.verify.postmap import _parse
from mailmapd.verify.run import choose_keys

SECTIONS = [
    MapSection(
        tables=("a",),
        search=search,
        recipient_delimiter=delimiter,
        local_domains=("local.test",),
        parent_domain_matches_subdomains=parents,
        propagate_unmatched_extensions=propagates,
        owner_request_special=owners,
    )
    for search in ("exact", "domain", "address", "transport", "access", "helo")
    for delimiter in ("", "+", "+-")
    for parents, propagates, owners in (
        (False, None, True),
        (True, None, True),
        (False, True, True),
        (False, None, False),
    )
]


@pytest.mark.parametrize(
    "section", SECTIONS, ids=lambda section: f"{section.search}{section.recipient_delimiter}"
)
def test_the_search_written_twice_agrees(section: MapSection) -> None:
    """The search that verify writes out after Postfix's sources and that of the daemon ask for the
    same keys in the same order.
    """
    ours = Search.compile(
        section.search,
        recipient_delimiter=section.recipient_delimiter.encode(),
        owner_request_special=section.owner_request_special,
        local_domains=[domain.encode() for domain in section.local_domains],
        parent_domain_matches_subdomains=section.parent_domain_matches_subdomains,
        external_only=section.propagate_unmatched_extensions is not None,
    )
    addresses = [
        b"user@example.com",
        b"user+ext@sub.example.com",
        b"owner-list-x@local.test",
        b"a.b+c@local.test",
    ]
    for key in variants(addresses, [b"example.com", b"local.test"]):
        theirs = [(step.key, step.extension) for step in old_steps(section, key)]
        assert [(step.key, step.extension) for step in ours.keys(key)] == theirs, key


def test_addresses_and_domains_are_taken_out_of_values() -> None:
    """Lists of destinations, domains and catch-alls yield their parts; other text yields nothing."""
    keys = Keys()
    for text in (
        b"a@x.test, b@y.test c@x.test",
        b"@catch.test",
        b"plain.test",
        b"maildir:/srv/x.y",
        b"1",
        b"a@b",
        b"x@-bad.test",
    ):
        keys.add(text)
    assert (list(keys.addresses), list(keys.domains)) == (
        [b"a@x.test", b"b@y.test", b"c@x.test"],
        [b"x.test", b"y.test", b"catch.test", b"plain.test"],
    )


def test_addresses_of_a_mail_log(tmp_path: Path) -> None:
    """Senders and recipients of a log come once each."""
    log = tmp_path / "mail.log"
    log.write_text(
        "Nov 22 mx postfix/qmgr[1]: 4AB: from=<a@x.test>, size=1\n"
        "Nov 22 mx postfix/lmtp[1]: 4AB: to=<b+e@y.test>, orig_to=<c@y.test>, relay=x\nNov 22 "
        "mx: from=<>, to=<a@x.test>,\n"
    )
    assert keys_of_mail_log(log) == [b"a@x.test", b"b+e@y.test", b"c@y.test"]


def test_values_with_newlines_are_read_whole() -> None:
    """A line that does not begin with a key still to come continues the value before it."""
    output = b"a@x\tone,\ntwo\tthree\nc@x\tfour\n"
    assert _parse([b"a@x", b"b@x", b"c@x"], output) == {
        b"a@x": b"one,\ntwo\tthree",
        b"c@x": b"four",
    }


def test_a_limit_keeps_edge_cases_and_repeats() -> None:
    """Fewer keys are a repeatable choice that still has edge cases and all extra keys."""
    keys = Keys()
    for number in range(2000):
        keys.add(b"user%d@example.com" % number)
    chosen = choose_keys(SECTIONS[8], keys, [b"extra@example.com"], 500)
    assert chosen == choose_keys(SECTIONS[8], keys, [b"extra@example.com"], 500)
    assert b"extra@example.com" in chosen
    assert 300 <= len(chosen) <= 520
    assert any(b'"' in key for key in chosen)
