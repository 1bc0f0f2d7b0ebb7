"""The widespread tutorial's database `virtual_email`, with its queries mended to name the columns that exist."""

from __future__ import annotations

from support.stacks import world
from support.stacks.stack import Insert, Stack


def _fill(insert: Insert) -> None:
    users = [
        (f"{user}.{domain}", f"{user}@{domain}", "{PLAIN}secret", domain, f"{domain}/{user}/")
        for user, domain in world.mailboxes()
    ]
    insert("email_user", users)
    insert("email_aliase", [(alias, ",".join(targets)) for alias, targets in world.aliases()])
    insert(
        "email_user",
        [
            (
                "all",
                f"all@{world.CATCH_ALL_DOMAIN}",
                "{PLAIN}secret",
                world.CATCH_ALL_DOMAIN,
                "catchall/all/",
            )
        ],
    )
    insert("email_aliase", [(f"@{world.CATCH_ALL_DOMAIN}", world.CATCH_ALL_TARGET)])


SCHEMA = """
CREATE TABLE email_user (
  user_no varchar(32) NOT NULL PRIMARY KEY,
  mail_account varchar(128) NOT NULL,
  mail_password varchar(64) NOT NULL,
  mail_domain varchar(64) NOT NULL,
  mail_dir varchar(128) NOT NULL
) DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;
CREATE TABLE email_aliase (
  aliase varchar(128) NOT NULL PRIMARY KEY,
  destination varchar(128) NOT NULL
) DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;
"""

INDEXES = (
    "CREATE INDEX mail_account_lookup ON email_user (mail_account); CREATE INDEX "
    "mail_domain_lookup ON email_user (mail_domain);"
)

TUTORIAL = Stack(
    name="tutorial",
    schema=SCHEMA + INDEXES,
    fill=_fill,
    queries={
        "mysql-mailuser": ("SELECT 1 FROM email_user WHERE mail_account = '%s'", ""),
        "mysql-maildomain": ("SELECT 1 FROM email_user WHERE mail_domain = '%s' LIMIT 1", ""),
        "mysql-mailaliase": ("SELECT destination FROM email_aliase WHERE aliase = '%s'", ""),
        "mysql-mailboxdir": ("SELECT mail_dir FROM email_user WHERE mail_account = '%s'", ""),
    },
    main_cf="""
# virtual mail
virtual_mailbox_domains = mysql:{cf}/mysql-maildomain.cf
virtual_mailbox_maps = mysql:{cf}/mysql-mailuser.cf,
  mysql:{cf}/mysql-mailboxdir.cf
virtual_alias_maps =
  mysql:{cf}/mysql-mailaliase.cf
virtual_transport = lmtp:unix:private/dovecot-lmtp
""",
)
