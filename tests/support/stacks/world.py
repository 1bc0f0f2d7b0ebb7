"""The mail that every stack holds.

Domains, users, aliases, catch-alls, a domain that stands for another, a relayed one, inactive ones.
"""

from __future__ import annotations

DOMAINS = tuple(f"d{number:02}.example" for number in range(14))
CATCH_ALL_DOMAIN = "catchall.example"
CATCH_ALL_TARGET = "user00@d00.example"
ALIAS_DOMAIN, ALIAS_DOMAIN_TARGET = "alias.example", "d00.example"
RELAY_DOMAIN, RELAY_TRANSPORT = "relay.example", "relay:[192.0.2.25]"
INACTIVE_DOMAIN = "closed.example"

USERS = (
    *(f"user{number:02}" for number in range(56)),
    "with.dot",
    "o'neil",
    "under_score",
    "owner-list",
)


def mailboxes() -> list[tuple[str, str]]:
    """Return (user, domain) of every active mailbox."""
    return [(user, domain) for domain in DOMAINS for user in USERS]


def aliases() -> list[tuple[str, list[str]]]:
    """Return (alias, targets)."""
    found: list[tuple[str, list[str]]] = []
    for domain in DOMAINS:
        found.append((f"sales@{domain}", [f"user00@{domain}", f"user01@{domain}"]))
        found.append((f"far@{domain}", ["someone@elsewhere.example"]))
        found.append((f"chain@{domain}", [f"sales@{domain}"]))
        found.append((f"fixed@{domain}", [f"user02+news@{domain}"]))
        found.append((f"special+ext@{domain}", [f"user03@{domain}"]))
        found.extend(
            (f"alias{number:02}@{domain}", [f"user{number:02}@{domain}"]) for number in range(20)
        )
    return found


def recipients() -> list[str]:
    """Return the recipients of the SMTP sessions: one of each kind."""
    return [
        "user00@d00.example",
        "user00+ext@d00.example",
        "USER00+Ext@D00.Example",
        "sales@d01.example",
        "sales+q3@d01.example",
        "far@d02.example",
        "chain+x@d03.example",
        "fixed@d04.example",
        "special+ext@d05.example",
        "special+other@d05.example",
        "with.dot+ext@d06.example",
        "o'neil@d07.example",
        "owner-list@d08.example",
        "nobody@d00.example",
        "nobody+ext@d00.example",
        "any@catchall.example",
        "any+ext@catchall.example",
        "user01@alias.example",
        "user01+ext@alias.example",
        "nobody@alias.example",
        "someone@relay.example",
        "someone@sub.relay.example",
        "user00@closed.example",
        "user00@sub.d00.example",
        "user00@elsewhere.example",
        '"user 00"@d00.example',
        '"user00"@d00.example',
    ]


def senders() -> list[str]:
    """Return the senders of the SMTP sessions."""
    return [
        "",
        "someone@outside.example",
        "user00@d00.example",
        "user00+ext@d00.example",
        "sales@d01.example",
        "x@catchall.example",
    ]
