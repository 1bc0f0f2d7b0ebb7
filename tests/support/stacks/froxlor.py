"""Froxlor: destinations separated by blanks, expansion limits, a sender query that reads whole tables."""

from __future__ import annotations

from support.stacks import world
from support.stacks.stack import Insert, Stack


def _fill(insert: Insert) -> None:
    insert("panel_customers (customerid)", [(1,)])
    insert(
        "panel_domains (domain, customerid, isemaildomain)",
        [(domain, 1, 1) for domain in (*world.DOMAINS, world.CATCH_ALL_DOMAIN)],
    )
    insert(
        "panel_domains (domain, customerid, isemaildomain, deactivated)",
        [(world.INACTIVE_DOMAIN, 1, 1, 1)],
    )
    users = [
        (f"{user}@{domain}", f"{user}@{domain}", "$6$x$y", "/var/mail/", f"{domain}/{user}/")
        for user, domain in world.mailboxes()
    ]
    insert("mail_users (email, username, password_enc, homedir, maildir)", users)
    rows = [
        (address, address, address)
        for user, domain in world.mailboxes()
        for address in [f"{user}@{domain}"]
    ]
    rows += [(alias, alias, " ".join(targets)) for alias, targets in world.aliases()]
    rows += [
        (f"@{world.CATCH_ALL_DOMAIN}", f"all@{world.CATCH_ALL_DOMAIN}", world.CATCH_ALL_TARGET)
    ]
    insert("mail_virtual (email, email_full, destination, customerid)", [(*row, 1) for row in rows])


FROXLOR = Stack(
    name="froxlor",
    slow_map="smtpd_sender_login_maps",
    schema="""
CREATE TABLE mail_users (
  id int NOT NULL AUTO_INCREMENT PRIMARY KEY, email varchar(255) NOT NULL UNIQUE, username varchar(255) NOT NULL,
  password_enc varchar(255) NOT NULL, homedir varchar(255) NOT NULL, maildir varchar(255) NOT NULL,
  uid int NOT NULL DEFAULT 2000, gid int NOT NULL DEFAULT 2000, quota bigint NOT NULL DEFAULT 0, imap tinyint(1) NOT NULL DEFAULT 1,
  pop3 tinyint(1) NOT NULL DEFAULT 1, postfix enum('Y', 'N') NOT NULL DEFAULT 'Y'
) DEFAULT CHARSET=utf8 COLLATE=utf8_general_ci;
CREATE TABLE mail_virtual (
  id int NOT NULL AUTO_INCREMENT PRIMARY KEY, email varchar(255) NOT NULL, email_full varchar(255) NOT NULL, destination text,
  customerid int NOT NULL, KEY email (email)
) DEFAULT CHARSET=utf8 COLLATE=utf8_general_ci;
CREATE TABLE panel_domains (
  id int unsigned AUTO_INCREMENT PRIMARY KEY, domain varchar(255) NOT NULL, customerid int unsigned NOT NULL,
  isemaildomain tinyint(1) NOT NULL DEFAULT 0, deactivated tinyint(1) NOT NULL DEFAULT 0, KEY domain (domain)
) DEFAULT CHARSET=utf8;
CREATE TABLE panel_customers (customerid int unsigned PRIMARY KEY, deactivated tinyint(1) NOT NULL DEFAULT 0) DEFAULT CHARSET=utf8;
""",
    fill=_fill,
    queries={
        "virtual_mailbox_maps": (
            "SELECT CONCAT(homedir, maildir) FROM mail_users WHERE email = '%s'",
            "expansion_limit = 1\n",
        ),
        "virtual_mailbox_domains": (
            "SELECT domain FROM panel_domains WHERE domain = '%s' AND isemaildomain = '1' AND deactivated = 0",
            "",
        ),
        "virtual_alias_maps": (
            (
                "SELECT destination FROM mail_virtual AS v, panel_customers AS c WHERE "
                "c.customerid = v.customerid AND c.deactivated = 0"
                " AND v.email = '%s' AND TRIM(v.destination) <> ''"
            ),
            "",
        ),
        "sender_permissions": (
            (
                "SELECT DISTINCT username FROM mail_users WHERE email IN ((SELECT email_full "
                "FROM mail_virtual WHERE email = '%s'"
                " UNION SELECT destination FROM mail_virtual WHERE email = '%s'));"
            ),
            "",
        ),
    },
    main_cf="""
virtual_mailbox_base = /
virtual_mailbox_maps = proxy:mysql:{cf}/virtual_mailbox_maps.cf
virtual_mailbox_domains = proxy:mysql:{cf}/virtual_mailbox_domains.cf
virtual_alias_maps = proxy:mysql:{cf}/virtual_alias_maps.cf
smtpd_sender_login_maps = proxy:mysql:{cf}/sender_permissions.cf
smtpd_sender_restrictions = reject_sender_login_mismatch
virtual_uid_maps = static:2000
virtual_gid_maps = static:2000
""",
)
