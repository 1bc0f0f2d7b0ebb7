"""ViMbAdmin: three maps, surrogate keys, no domain that stands for another."""

from __future__ import annotations

from support.stacks import world
from support.stacks.stack import Insert, Stack


def _fill(insert: Insert) -> None:
    insert("domain (domain)", [(domain,) for domain in (*world.DOMAINS, world.CATCH_ALL_DOMAIN)])
    insert("domain (domain, active)", [(world.INACTIVE_DOMAIN, 0)])
    insert("domain (domain, backupmx)", [(world.RELAY_DOMAIN, 1)])
    mailboxes = [
        (f"{user}@{domain}", "$2y$05$x", user, f"maildir:/srv/{domain}/{user}")
        for user, domain in world.mailboxes()
    ]
    insert("mailbox (username, password, local_part, maildir)", mailboxes)
    identity = [(f"{user}@{domain}", f"{user}@{domain}") for user, domain in world.mailboxes()]
    insert("alias (address, goto)", identity)
    insert(
        "alias (address, goto)", [(alias, ",".join(targets)) for alias, targets in world.aliases()]
    )
    insert("alias (address, goto)", [(f"@{world.CATCH_ALL_DOMAIN}", world.CATCH_ALL_TARGET)])
    insert("alias (address, goto, active)", [("old@d00.example", "user00@d00.example", 0)])


VIMBADMIN = Stack(
    name="vimbadmin",
    schema="""
CREATE TABLE domain (
  id bigint AUTO_INCREMENT PRIMARY KEY, domain varchar(255) NOT NULL UNIQUE, backupmx tinyint(1) NOT NULL DEFAULT 0,
  active tinyint(1) NOT NULL DEFAULT 1
) DEFAULT CHARSET=utf8mb4;
CREATE TABLE mailbox (
  id bigint AUTO_INCREMENT PRIMARY KEY, username varchar(255) NOT NULL UNIQUE, password varchar(255) NOT NULL,
  local_part varchar(255) NOT NULL, active tinyint(1) NOT NULL DEFAULT 1, maildir varchar(255),
  homedir varchar(255), uid bigint, gid bigint
) DEFAULT CHARSET=utf8mb4;
CREATE TABLE alias (
  id bigint AUTO_INCREMENT PRIMARY KEY, address varchar(255) NOT NULL UNIQUE, goto longtext NOT NULL, active tinyint(1) NOT NULL DEFAULT 1
) DEFAULT CHARSET=utf8mb4;
""",
    fill=_fill,
    queries={
        "aliases": ("SELECT goto FROM alias WHERE address = '%s' AND active = '1'", ""),
        "domains": (
            "SELECT domain FROM domain WHERE domain = '%s' AND backupmx = '0' AND active = '1'",
            "",
        ),
        "mailboxes": ("SELECT maildir FROM mailbox WHERE username = '%s' AND active = '1'", ""),
    },
    main_cf="""
virtual_alias_maps = mysql:{cf}/aliases.cf
virtual_mailbox_domains = mysql:{cf}/domains.cf
virtual_mailbox_maps = mysql:{cf}/mailboxes.cf
""",
)
