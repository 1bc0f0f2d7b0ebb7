"""The demonstration's mail database.

The schema of the virtual_email tutorial, with its faults mended, and a few thousand accounts.

Against the tutorial's: the lookup columns are indexed, a user number may exist in every domain, and
passwords are hashed.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

DOMAINS = ("example.com", "example.net", "example.org")
ACCOUNTS_PER_DOMAIN = 1000
CATCH_ALL_DOMAIN = "example.org"

# The word "demo", hashed.
_PASSWORD = (
    "{SHA512-CRYPT}$6$gnYL3GjdH8PLM03Y$"  # noqa: S105
    "wmw6XxXpevnwNeuCAR5sp7dBXfJFOCxG1q1o2lCecAIuIjVKrjAYy52R3nWQ4SjZkRPtRHKY/FQiSEEdovTeA1"
)

_SCHEMA = """
CREATE TABLE email_user (
  user_no varchar(32) NOT NULL,
  mail_account varchar(128) NOT NULL UNIQUE,
  mail_password varchar(128) NOT NULL,
  mail_domain varchar(64) NOT NULL,
  mail_dir varchar(128) NOT NULL,
  PRIMARY KEY (mail_domain, user_no)
);
CREATE TABLE email_aliase (
  aliase varchar(128) NOT NULL PRIMARY KEY,
  destination varchar(1024) NOT NULL
);
"""


def create(path: Path) -> None:
    """Write the database to a new file."""
    connection = sqlite3.connect(path)
    try:
        connection.executescript(_SCHEMA)
        connection.executemany("INSERT INTO email_user VALUES (?, ?, ?, ?, ?)", _users())
        connection.executemany("INSERT INTO email_aliase VALUES (?, ?)", _aliases())
        connection.commit()
    finally:
        connection.close()


def _users() -> Iterator[tuple[str, ...]]:
    for domain in DOMAINS:
        for number in range(1, ACCOUNTS_PER_DOMAIN + 1):
            user = f"user{number}"
            yield user, f"{user}@{domain}", _PASSWORD, domain, f"{domain}/{user}/"


def _aliases() -> Iterator[tuple[str, str]]:
    for domain in DOMAINS:
        yield f"postmaster@{domain}", "user1@example.com"
        yield f"sales@{domain}", "user1@example.com, user2@example.com, user3@example.net"
    # Every mailbox of a catch-all domain is an alias of itself, so that the catch-all does not take its mail.
    for number in range(1, ACCOUNTS_PER_DOMAIN + 1):
        yield f"user{number}@{CATCH_ALL_DOMAIN}", f"user{number}@{CATCH_ALL_DOMAIN}"
    yield f"@{CATCH_ALL_DOMAIN}", "user1@example.org"
