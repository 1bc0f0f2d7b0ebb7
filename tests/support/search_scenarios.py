"""Mail systems in small: which maps a Postfix has, with which settings, and what is sent to it.

Each scenario is set up twice, once with `mysql:` tables and once with maps of the daemon, and must
behave the same. A setting may name a map in braces: ``check_recipient_access {access}``.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from support.tutorial import QUERIES

# (map, key, value): one table holds the small maps of all scenarios.
PAIRS = (
    ("alias_list_2", "alice@example.com", "shadowed@elsewhere.test"),
    ("alias_list_2", "@example.com", "catch-all@elsewhere.test"),
    ("alias_list_2", "dave@example.org", "carol@example.com"),
    ("canonical", "alice@example.com", "Alice.Smith@example.com"),
    ("canonical", "@old.test", "@example.com"),
    ("canonical", "bob", "robert@example.com"),
    ("canonical", "quoted@example.com", '"quo ted"@example.com'),
    ("canonical", "carol@example.com", "carol"),
    ("bcc", "alice@example.com", "archive@example.net"),
    ("bcc", "@example.net", "net-archive+y@elsewhere.test"),
    ("bcc", "root", "root-archive@example.net"),
    ("transport", "alice@example.com", "retry:4.3.0 alice"),
    ("transport", "bob+x@example.com", "retry:4.3.0 bob with x"),
    ("transport", "example.com", "retry:4.3.0 domain"),
    ("transport", ".parent.test", "retry:4.3.0 below parent"),
    ("transport", "parent.test", "retry:4.3.0 parent"),
    ("transport", "*", "retry:4.3.0 everything"),
    ("sender_transport", "alice@example.com", "retry:4.3.0 from alice"),
    ("sender_transport", "@example.net", "retry:4.3.0 from net"),
    ("recipient_access", "bob@example.com", "REJECT bob"),
    ("recipient_access", "carol@", "450 4.7.1 try later"),
    ("recipient_access", "dave+ext@", "REJECT dave with ext"),
    ("recipient_access", "eve+ext@example.com", "REJECT eve with ext"),
    ("recipient_access", "refused.test", "REJECT refused domain"),
    ("recipient_access", ".dotted.test", "REJECT dotted domain"),
    ("recipient_access", "example.net", "OK"),
    ("sender_access", "<>", "REJECT null sender"),
    ("sender_access", "spam.test", "REJECT spam"),
    ("sender_access", "friend@spam.test", "DUNNO"),
    ("sender_access", "bad@", "REJECT bad local part"),
    ("client_access", "127.0", "450 4.7.1 client network"),
    ("helo_access", "test", "450 4.7.1 helo parent"),
    ("helo_access", ".test", "450 4.7.1 helo dotted parent"),
    ("login", "alice@example.com", "alice"),
    ("login", "@example.net", "net-admin, other"),
    ("login", "root", "root"),
    ("relay", "relay.test", "1"),
    ("relay", "parent.test", "1"),
    ("relay_recipient", "known@relay.test", "1"),
    ("relay_recipient", "@sub.parent.test", "1"),
    ("alias_only", "alias-only.test", "x"),
    ("alias_only", "user@alias-only.test", "alice@example.com"),
    ("alias_only", "@alias-only.test", "bob@example.com"),
    ("alias_only", "info-systems.test", "x"),
)

MAPS = {name for name, _, _ in PAIRS}
ALL_QUERIES = QUERIES | {
    name: f"SELECT v FROM pair WHERE map = '{name}' AND k = '%s'" for name in sorted(MAPS)
}

SENDER = "sender@client.test"
MANGLING = (
    "+",
    "-",
    ".",
    "@",
    "%",
    "!",
    '"',
    "\\",
    " ",
    "'",
    "_",
    "+x",
    '"a"',
    "owner-",
    "-request",
    ":",
    ",",
    ";",
    "(",
    ")",
    "[",
    "ö",
    "@example.com",
)
RECIPIENTS = (
    *(
        "alice@example.com",
        "bob+x@example.com",
        "Alice+Ext@Example.COM",
        "ALICE@EXAMPLE.COM",
        "unknown@example.com",
        "unknown+x@example.com",
    ),
    *(
        "alice+@example.com",
        "alice++x@example.com",
        "+x@example.com",
        "alice+a+b@example.com",
        "alice-x@example.com",
        "alice.x@example.com",
    ),
    *(
        "postmaster@example.com",
        "postmaster+x@example.com",
        "postmaster",
        "POSTMASTER",
        "double-bounce@example.com",
        "team@example.com",
    ),
    *(
        "team+x@example.com",
        "Team+X@example.com",
        "far@example.com",
        "far+x@example.com",
        "move@example.com",
        "move+x@example.com",
    ),
    *(
        "plus@example.com",
        "plus+y@example.com",
        "chain+x@example.com",
        "loop@example.com",
        "quoted@example.com",
        "quoted+x@example.com",
    ),
    *(
        "special+ext@example.com",
        "special+other@example.com",
        "special@example.com",
        "dash-one@example.com",
        "dash-one-x@example.com",
    ),
    *(
        "owner-news@example.com",
        "owner-news-x@example.com",
        "news-request@example.com",
        "news-request+x@example.com",
        "owner-list@example.com",
    ),
    *(
        "owner-other@example.com",
        "other-request@example.com",
        "bare@example.com",
        "bare+x@example.com",
        "with.dot@example.com",
    ),
    *(
        "any@example.org",
        "any+x@example.org",
        "alice+x@example.org",
        "dave@example.org",
        "catch@example.com",
        '"a b"@example.com',
    ),
    *(
        '"a b+x"@example.com',
        '"alice"@example.com',
        '"alice+ext"@example.com',
        '"al\\"ice"@example.com',
        '"a@b"@example.com',
    ),
    *(
        '"a b"@example.org',
        "alice@alias.test",
        "alice+e@alias.test",
        "team@alias.test",
        "unknown@alias.test",
        "alice@double.test",
    ),
    *(
        "user@unhosted.test",
        "user+x@unhosted.test",
        "alice@sub.example.com",
        "alice@example.com.",
        "alice@[127.0.0.1]",
        "root@[127.0.0.1]",
    ),
    *(
        "alice",
        "root",
        "root+x",
        "helpdesk@mail.test",
        "helpdesk+x@mail.test",
        "root@local.test",
        "helpdesk+x@local.test",
        "bob@local.test",
    ),
    *(
        "alice@local.test",
        "alice+x@LOCAL.test",
        "nobody@local.test",
        "zoë@example.com",
        "zoë+ü@example.com",
        "ZOË@example.com",
    ),
    *(
        "alice%example.net@example.com",
        "example.net!alice@example.com",
        "@relay.invalid:alice@example.com",
        "alice@@example.com",
        "@example.com",
    ),
)


@dataclass(frozen=True)
class MapSpec:
    """One map: its tables in order (names of ALL_QUERIES), and how the daemon must search them."""

    tables: tuple[str, ...]
    search: str = "address"
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Scenario:
    """One mail system: main.cf settings, maps, and every sender and recipient to try.

    With `held` messages stay on hold after cleanup; without, the queue manager routes them, and
    every transport must be retry(8). `local` are the domains of mydestination; myorigin is local
    besides.
    """

    settings: dict[str, str]
    maps: dict[str, MapSpec]
    recipients: tuple[str, ...] = RECIPIENTS
    senders: tuple[str, ...] = (SENDER,)
    delimiter: str = "+"
    local: tuple[str, ...] = ()
    held: bool = True


DOMAINS = MapSpec(("maildomain",), "exact")
MAILBOXES = MapSpec(("mailbox",))
REWRITES = {"propagate_unmatched_extensions": True}
HOSTING = {
    "virtual_mailbox_domains": "{domains}",
    "virtual_alias_maps": "{aliases}",
    "virtual_mailbox_maps": "{mailboxes}",
}
HOSTING_MAPS = {
    "domains": DOMAINS,
    "aliases": MapSpec(("alias",), options=REWRITES),
    "mailboxes": MAILBOXES,
}


def _list_of(*tables: str) -> dict[str, MapSpec]:
    return HOSTING_MAPS | {
        "aliases": MapSpec(tables, options=REWRITES),
        "domains": MapSpec(("maildomain", "alias_domain_name"), "exact"),
    }


SCENARIOS = {
    "tutorial": Scenario(HOSTING, HOSTING_MAPS),
    "no delimiter": Scenario(HOSTING, HOSTING_MAPS, delimiter=""),
    "delimiters +-": Scenario(HOSTING, HOSTING_MAPS, delimiter="+-"),
    "delimiters -+. and no special owners": Scenario(
        HOSTING | {"owner_request_special": "no"}, HOSTING_MAPS, delimiter="-+."
    ),
    "no propagation": Scenario(
        HOSTING | {"propagate_unmatched_extensions": ""},
        HOSTING_MAPS
        | {"aliases": MapSpec(("alias",), options={"propagate_unmatched_extensions": False})},
    ),
    "list of alias tables": Scenario(
        HOSTING, _list_of("alias", "alias_domain", "account", "alias_list_2")
    ),
    "catch-all in the first table": Scenario(
        HOSTING, _list_of("alias_list_2", "alias_domain", "alias")
    ),
    "local domain": Scenario(
        HOSTING
        | {
            "local_recipient_maps": "{locals}",
            "virtual_mailbox_domains": "example.com, example.net",
        },
        {
            "aliases": HOSTING_MAPS["aliases"],
            "mailboxes": MAILBOXES,
            "locals": MapSpec(("alias", "account")),
        },
        local=("local.test", "mail.test"),
    ),
    "no origin appended": Scenario(HOSTING | {"append_at_myorigin": "no"}, HOSTING_MAPS),
    "alias domains from the alias map": Scenario(
        {"virtual_alias_maps": "{aliases}"},
        {"aliases": MapSpec(("alias_only",), options=REWRITES)},
        (
            "user@alias-only.test",
            "user+x@alias-only.test",
            "other@alias-only.test",
            "user@info-systems.test",
            "a@unhosted.test",
            "a@info.test",
        ),
        delimiter="+-",
    ),
    "canonical": Scenario(
        HOSTING | {"canonical_maps": "{canonical}"},
        HOSTING_MAPS | {"canonical": MapSpec(("canonical",), options=REWRITES)},
        (*RECIPIENTS, "alice+x@old.test", "bob@mail.test", "bob+x@mail.test", '"a b+x"@old.test'),
        ("alice+x@example.com", "x+y@old.test"),
    ),
    "canonical without propagation": Scenario(
        HOSTING
        | {
            "sender_canonical_maps": "{canonical}",
            "recipient_canonical_maps": "{canonical}",
            "propagate_unmatched_extensions": "virtual",
        },
        HOSTING_MAPS
        | {"canonical": MapSpec(("canonical",), options={"propagate_unmatched_extensions": False})},
        (
            "alice+x@example.com",
            "quoted+x@example.com",
            "x+y@old.test",
            "bob+z@mail.test",
            "carol+q@example.com",
        ),
        (
            "alice+x@example.com",
            "quoted+x@example.com",
            "x+y@old.test",
            "bob+z@mail.test",
            "carol+q@example.com",
            "",
        ),
    ),
    "bcc": Scenario(
        HOSTING | {"recipient_bcc_maps": "{bcc}", "sender_bcc_maps": "{bcc}"},
        HOSTING_MAPS | {"bcc": MapSpec(("bcc",))},
        senders=(SENDER, "alice+x@example.com", "dave@example.net", "root@mail.test"),
    ),
    "transport": Scenario(
        HOSTING
        | {
            "transport_maps": "{transport}",
            "relay_domains": "parent.test, sub.parent.test, deep.sub.parent.test",
            "mydestination": "",
        },
        HOSTING_MAPS
        | {
            "transport": MapSpec(
                ("transport",), "transport", {"parent_domain_matches_subdomains": False}
            )
        },
        (*RECIPIENTS, "u@parent.test", "u@sub.parent.test", "u+x@deep.sub.parent.test"),
        held=False,
    ),
    "transport of parent domains": Scenario(
        HOSTING
        | {
            "transport_maps": "{transport}",
            "relay_domains": "parent.test",
            "parent_domain_matches_subdomains": "relay_domains transport_maps",
        },
        HOSTING_MAPS
        | {
            "transport": MapSpec(
                ("transport",), "transport", {"parent_domain_matches_subdomains": True}
            )
        },
        (
            "u@parent.test",
            "u@sub.parent.test",
            "u+x@deep.sub.parent.test",
            "alice+x@example.com",
            "bob+x@example.com",
            "bob@example.com",
        ),
        held=False,
    ),
    "transport by sender": Scenario(
        HOSTING
        | {
            "sender_dependent_default_transport_maps": "{by_sender}",
            "default_transport": "retry:4.3.0 default",
            "virtual_transport": "retry:v",
        },
        HOSTING_MAPS | {"by_sender": MapSpec(("sender_transport",))},
        ("far@example.com",),
        (SENDER, "alice@example.com", "Alice+x@example.com", "dave@example.net", ""),
        held=False,
    ),
    "recipient access": Scenario(
        HOSTING
        | {
            "smtpd_recipient_restrictions": "check_recipient_access {access}",
            "relay_domains": "refused.test, dotted.test, sub.dotted.test",
        },
        HOSTING_MAPS
        | {
            "access": MapSpec(
                ("recipient_access",), "access", {"parent_domain_matches_subdomains": True}
            )
        },
        (
            *RECIPIENTS,
            "dave+ext@example.com",
            "dave@example.com",
            "eve+ext@example.com",
            "carol+x@example.com",
            "u@sub.refused.test",
            "u@sub.dotted.test",
        ),
    ),
    "recipient access with dotted parents": Scenario(
        HOSTING
        | {
            "smtpd_recipient_restrictions": "check_recipient_access {access}",
            "relay_domains": "refused.test, dotted.test",
            "parent_domain_matches_subdomains": "relay_domains",
        },
        HOSTING_MAPS
        | {
            "access": MapSpec(
                ("recipient_access",), "access", {"parent_domain_matches_subdomains": False}
            )
        },
        (
            "u@refused.test",
            "u@sub.refused.test",
            "u@dotted.test",
            "u@sub.dotted.test",
            "u@a.sub.dotted.test",
            "dave+ext@example.com",
        ),
    ),
    "sender access": Scenario(
        HOSTING | {"smtpd_sender_restrictions": "check_sender_access {access}"},
        HOSTING_MAPS
        | {
            "access": MapSpec(
                ("sender_access",), "access", {"parent_domain_matches_subdomains": True}
            )
        },
        ("alice@example.com",),
        (
            "",
            SENDER,
            "x@spam.test",
            "x@sub.spam.test",
            "friend@spam.test",
            "Friend+x@Spam.test",
            "bad+x@any.test",
            "BAD@any.test",
            "bad",
            "zoë@spam.test",
        ),
    ),
    "client access": Scenario(
        HOSTING | {"smtpd_client_restrictions": "check_client_access {access}"},
        HOSTING_MAPS
        | {
            "access": MapSpec(
                ("client_access",), "access", {"parent_domain_matches_subdomains": True}
            )
        },
        ("alice@example.com",),
    ),
    "helo access": Scenario(
        HOSTING | {"smtpd_helo_restrictions": "check_helo_access {access}"},
        HOSTING_MAPS
        | {"access": MapSpec(("helo_access",), "helo", {"parent_domain_matches_subdomains": True})},
        ("alice@example.com",),
    ),
    "helo access with dotted parents": Scenario(
        HOSTING
        | {
            "smtpd_helo_restrictions": "check_helo_access {access}",
            "parent_domain_matches_subdomains": "",
        },
        HOSTING_MAPS
        | {
            "access": MapSpec(("helo_access",), "helo", {"parent_domain_matches_subdomains": False})
        },
        ("alice@example.com",),
    ),
    "sender logins": Scenario(
        HOSTING
        | {
            "smtpd_sender_login_maps": "{login}",
            "smtpd_sender_restrictions": "reject_sender_login_mismatch",
            "smtpd_sasl_auth_enable": "yes",
        },
        HOSTING_MAPS | {"login": MapSpec(("login",))},
        ("alice@example.com",),
        (
            "",
            SENDER,
            "alice@example.com",
            "Alice+x@Example.com",
            "alice@example.net",
            "root@mail.test",
            "root",
            '"a b"@example.net',
        ),
    ),
    "relay": Scenario(
        {"relay_domains": "{relay}", "relay_recipient_maps": "{recipients}"},
        {
            "relay": MapSpec(("relay",), "domain", {"parent_domain_matches_subdomains": True}),
            "recipients": MapSpec(("relay_recipient",)),
        },
        (
            "known@relay.test",
            "known+x@relay.test",
            "unknown@relay.test",
            "known@sub.relay.test",
            "any@sub.parent.test",
            "any@parent.test",
            "a@unhosted.test",
        ),
    ),
    "relay with dotted parents": Scenario(
        {"relay_domains": "{relay}", "parent_domain_matches_subdomains": ""},
        {"relay": MapSpec(("relay",), "domain", {"parent_domain_matches_subdomains": False})},
        (
            "known@relay.test",
            "known@sub.relay.test",
            "any@sub.parent.test",
            "any@parent.test",
            "a@unhosted.test",
        ),
    ),
}


def mangled(source: random.Random, count: int) -> Iterator[str]:
    """Yield recipients with characters put in, taken out and changed in case, more often in the
    local part than elsewhere.
    """
    for _ in range(count):
        text, at, domain = source.choice(RECIPIENTS).rpartition("@")
        if not at or source.random() < 0.15:
            text, at, domain = text + at + domain, "", ""
        for _ in range(source.choice([1, 1, 2])):
            place = source.randrange(len(text) + 1)
            text = (
                text[:place]
                + source.choice(["", "", *MANGLING])
                + text[place + source.choice([0, 0, 0, 1]) :]
            )
        text += source.choice(["", "", "+x", "-x"])
        yield source.choice([text, text, text.upper(), text.title(), f'"{text}"']) + at + domain
