"""The widespread tutorial's mail database `virtual_email`, corrected, with sample mailboxes and aliases.

Corrected against the tutorial: queries speak of `mail_account` (the column that exists), the lookup
columns are indexed, one user number may exist in several domains, the alias query maps aliases (not
users to themselves), and virtual_mailbox_maps has one value. `alias_domain` is added for the case
that one domain stands for another.
"""

from __future__ import annotations

from pathlib import Path

from support.mariadb import MariaDB

USER = "mail"
PASSWORD = "mail secret #1"
DATABASE = "virtual_email"

SCHEMA = """
CREATE TABLE email_user (
  user_no varchar(32) NOT NULL,
  mail_account varchar(128) NOT NULL,
  mail_password varchar(64) NOT NULL,
  mail_domain varchar(64) NOT NULL,
  mail_dir varchar(128) NOT NULL,
  PRIMARY KEY (mail_domain, user_no),
  UNIQUE KEY mail_account (mail_account)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;
CREATE TABLE email_aliase (
  aliase varchar(128) NOT NULL PRIMARY KEY,
  destination varchar(1024) NOT NULL
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;
CREATE TABLE alias_domain (
  alias varchar(64) NOT NULL PRIMARY KEY,
  target varchar(64) NOT NULL
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;
"""

DOMAINS = ("example.com", "example.net", "example.org", "local.test")
USERS = ("alice", "bob", "carol", "dave", "eve", "owner-list", "with.dot", "zoë")

ALIASES = {
    "postmaster@example.com": "alice@example.com",
    "team@example.com": "alice@example.com, bob@example.com,carol@example.net",
    "far@example.com": "someone@elsewhere.test",
    "move@example.com": "@example.net",
    "plus@example.com": "alice+fixed@example.com",
    "chain@example.com": "postmaster@example.com",
    "loop@example.com": "loop@example.com, bob@example.com",
    "quoted@example.com": '"al ice"@elsewhere.test',
    '"a b"@example.com': "bob@example.com",
    "special+ext@example.com": "carol@example.com",
    "dash-one@example.com": "dave@example.com",
    "owner-news@example.com": "alice@example.com",
    "news-request@example.com": "bob@example.com",
    "bare@example.com": "alice",
    "@example.org": "catch@example.com",
    "catch@example.com": "eve@example.com",
    "alice@local.test": "alice@example.com",
    "root": "alice@example.com",
    "helpdesk": "team@example.com",
}

ALIAS_DOMAINS = {"alias.test": "example.com", "double.test": "alias.test"}

QUERIES = {
    "maildomain": "SELECT 1 FROM email_user WHERE mail_domain = '%s' LIMIT 1",
    "mailbox": "SELECT mail_dir FROM email_user WHERE mail_account = '%s'",
    "alias": "SELECT destination FROM email_aliase WHERE aliase = '%s'",
    "account": "SELECT mail_account FROM email_user WHERE mail_account = '%s'",
    "alias_domain_name": "SELECT 1 FROM alias_domain WHERE alias = '%s'",
    "alias_domain": "SELECT CONCAT('%u@', target) FROM alias_domain WHERE alias = '%d'",
}


def create(server: MariaDB, database: str = DATABASE) -> None:
    """Create the database with its sample rows and the account that may read it."""
    server.run_sql(
        f"DROP DATABASE IF EXISTS `{database}`; CREATE DATABASE `{database}` CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"
    )
    server.run_sql(SCHEMA, database=database)
    connection = server.connect(database)
    with connection, connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO email_user VALUES (%s, %s, %s, %s, %s)",
            [
                (user, f"{user}@{domain}", f"{{PLAIN}}{user}-secret", domain, f"{domain}/{user}/")
                for domain in DOMAINS
                for user in USERS
            ],
        )
        cursor.executemany("INSERT INTO email_aliase VALUES (%s, %s)", list(ALIASES.items()))
        cursor.executemany("INSERT INTO alias_domain VALUES (%s, %s)", list(ALIAS_DOMAINS.items()))
    server.grant(USER, PASSWORD, database)


def write_cf(
    server: MariaDB,
    directory: Path,
    database: str = DATABASE,
    queries: dict[str, str] | None = None,
) -> dict[str, Path]:
    """Write one mysql_table(5) file per query, as an administrator has them, and return their paths by name."""
    files = {}
    for name, query in (queries or QUERIES).items():
        path = directory / f"mysql-{name}.cf"
        path.write_text(
            f"user = {USER}\npassword = {PASSWORD}\nhosts = unix:{server.socket}\ndbname = "
            f"{database}\nquery = {query}\n"
        )
        files[name] = path
    return files
