"""The mailboxes that are asked for.

Addresses as people have them, in as many as wanted, and the database that holds some of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from support.stacks import Stack
from support.stacks.postfixadmin import POSTFIXADMIN
from support.stacks.stack import Insert

FIRST = (
    "anna",
    "ben",
    "clara",
    "david",
    "elena",
    "frank",
    "gerda",
    "hannes",
    "ida",
    "jonas",
    "katharina",
    "lukas",
    "olga",
    "peter",
)
LAST = (
    "andersen",
    "bauer",
    "costa",
    "dupont",
    "eriksson",
    "fischer",
    "hoffmann",
    "ivanova",
    "jansen",
    "kowalski",
    "novak",
    "olsen",
)
DOMAINS = (
    "bakery",
    "brewery",
    "cinema",
    "dentist",
    "florist",
    "garden",
    "hotel",
    "insurance",
    "library",
    "museum",
)
PER_DOMAIN = 100
PASSWORD = "geheim"


def address(number: int) -> str:
    """Return the n-th mailbox's address, 30 bytes on average."""
    domain = number // PER_DOMAIN
    person = number % PER_DOMAIN
    first, last = FIRST[number % len(FIRST)], LAST[number // len(FIRST) % len(LAST)]
    return f"{first}.{last}{person}@{DOMAINS[domain % len(DOMAINS)]}{domain}.example"


def maildir(mailbox: str) -> str:
    """Return where the mailbox's mail is kept, below the folder of all mail."""
    user, _, domain = mailbox.rpartition("@")
    return f"{domain}/{user}/"


def addresses(count: int) -> Iterator[str]:
    """Yield the first `count` addresses."""
    return map(address, range(count))


def domains(mailboxes: int) -> list[str]:
    """Return the domains of the first `mailboxes` addresses."""
    return sorted({address.rpartition("@")[2] for address in addresses(mailboxes)})


def write_keys(path: Path, keys: Iterable[str]) -> Path:
    """Write a key file: one key per line."""
    path.write_text("".join(f"{key}\n" for key in keys), encoding="utf-8")
    return path


def postfixadmin(mailboxes: int) -> Stack:
    """Return PostfixAdmin's tables and queries with so many mailboxes, each with the alias to
    itself that PostfixAdmin makes.
    """

    def fill(insert: Insert) -> None:
        insert("domain (domain)", [(domain,) for domain in domains(mailboxes)])
        for start in range(0, mailboxes, 10_000):
            batch = [address(number) for number in range(start, min(start + 10_000, mailboxes))]
            insert(
                "mailbox (username, password, maildir, local_part, domain)",
                [
                    (address, f"{{PLAIN}}{PASSWORD}", maildir(address), *address.split("@"))
                    for address in batch
                ],
            )
            insert(
                "alias (address, goto, domain)",
                [(address, address, address.rpartition("@")[2]) for address in batch],
            )

    return replace(POSTFIXADMIN, name="bench", fill=fill)
