"""ISPmail: one row per alias target, and an identity map that keeps mailboxes out of catch-alls' reach."""

from __future__ import annotations

from support.stacks import world
from support.stacks.stack import Insert, Stack


def _fill(insert: Insert) -> None:
    domains = [*world.DOMAINS, world.CATCH_ALL_DOMAIN]
    number = {domain: index for index, domain in enumerate(domains, start=1)}
    insert("virtual_domains (id, name)", [(number[domain], domain) for domain in domains])
    users = [
        (number[domain], "{BLF-CRYPT}$2y$05$x", f"{user}@{domain}")
        for user, domain in world.mailboxes()
    ]
    insert("virtual_users (domain_id, password, email)", users)
    targets = [
        (number[alias.partition("@")[2]], alias, target)
        for alias, targets in world.aliases()
        for target in targets
    ]
    insert("virtual_aliases (domain_id, source, destination)", targets)
    catch_all = (
        number[world.CATCH_ALL_DOMAIN],
        f"@{world.CATCH_ALL_DOMAIN}",
        world.CATCH_ALL_TARGET,
    )
    catch_all_2 = (number["d09.example"], "@d09.example", "user05@d09.example")
    insert("virtual_aliases (domain_id, source, destination)", [catch_all, catch_all_2])


ISPMAIL = Stack(
    name="ispmail",
    schema="""
CREATE TABLE virtual_domains (id int NOT NULL AUTO_INCREMENT PRIMARY KEY, name varchar(50) NOT NULL) DEFAULT CHARSET=utf8;
CREATE TABLE virtual_users (
  id int NOT NULL AUTO_INCREMENT PRIMARY KEY, domain_id int NOT NULL, password varchar(150) NOT NULL, email varchar(100) NOT NULL UNIQUE,
  quota int NOT NULL DEFAULT 0, FOREIGN KEY (domain_id) REFERENCES virtual_domains (id) ON DELETE CASCADE
) DEFAULT CHARSET=utf8;
CREATE TABLE virtual_aliases (
  id int NOT NULL AUTO_INCREMENT PRIMARY KEY, domain_id int NOT NULL, source varchar(100) NOT NULL, destination varchar(100) NOT NULL,
  FOREIGN KEY (domain_id) REFERENCES virtual_domains (id) ON DELETE CASCADE
) DEFAULT CHARSET=utf8;
""",
    fill=_fill,
    queries={
        "domains": ("SELECT 1 FROM virtual_domains WHERE name = '%s'", ""),
        "mailboxes": ("SELECT 1 FROM virtual_users WHERE email = '%s'", ""),
        "aliases": ("SELECT destination FROM virtual_aliases WHERE source = '%s'", ""),
        "email2email": ("SELECT email FROM virtual_users WHERE email = '%s'", ""),
    },
    main_cf="""
virtual_mailbox_domains = mysql:{cf}/domains.cf
virtual_mailbox_maps = mysql:{cf}/mailboxes.cf
virtual_alias_maps = mysql:{cf}/aliases.cf,mysql:{cf}/email2email.cf
smtpd_sender_login_maps = mysql:{cf}/email2email.cf
smtpd_sender_restrictions = reject_sender_login_mismatch
""",
)
