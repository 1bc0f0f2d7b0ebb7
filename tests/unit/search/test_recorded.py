"""What the functions of Postfix 3.7.11 (libpostfix-global) did with these addresses, recorded.

recorded_keys.json: [strategy, recipient_delimiter, external form only, external address, [[key
asked, extension when it was found], …]], from mail_addr_find_opt() over a table that prints its
keys, with mydestination = local.example, parent domains matching subdomains and
owner_request_special = yes.

recorded_results.json: [result, external address, extension, propagate, what we return, recipients],
where mail_addr_map_internal() gave the same recipients for the result found without the extension
and for what we return found with the full address; myorigin = origin.example.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mailmapd.search import Search, SearchKey, propagate


def recorded(name: str) -> list[Any]:
    rows: list[Any] = json.loads((Path(__file__).parent / f"{name}.json").read_text())
    return rows


@pytest.mark.parametrize("strategy", ["address", "access", "transport"])
def test_keys_and_extensions_are_those_of_postfix(strategy: str) -> None:
    """Every recorded address is asked for with Postfix's keys, in its order, with its extensions."""
    rows = [row for row in recorded("recorded_keys") if row[0] == strategy]
    assert rows
    for _, delimiter, external_only, address, keys in rows:
        search = Search.compile(
            strategy,
            recipient_delimiter=delimiter.encode(),
            local_domains=[b"local.example"],
            external_only=external_only,
        )
        expected = [
            SearchKey(key.encode("latin-1"), extension.encode("latin-1")) for key, extension in keys
        ]
        assert list(search.keys(address.encode("latin-1"))) == expected, (
            delimiter,
            external_only,
            address,
        )


def test_results_lead_to_the_recipients_of_postfix() -> None:
    """Every recorded result becomes the one that was seen to give the same recipients."""
    rows = recorded("recorded_results")
    assert rows
    for result, address, extension, enabled, returned, _ in rows:
        given = [part.encode("latin-1") for part in (result, address, extension)]
        assert propagate(given[0], given[1], given[2], enabled) == returned.encode("latin-1"), (
            result,
            address,
            enabled,
        )
