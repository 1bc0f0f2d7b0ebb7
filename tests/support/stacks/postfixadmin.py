"""PostfixAdmin with domains that stand for others, transports and relayed domains."""

from __future__ import annotations

from support.stacks import world
from support.stacks.stack import Insert, Stack


def _fill(insert: Insert) -> None:
    insert(
        "domain (domain)",
        [(domain,) for domain in (*world.DOMAINS, world.CATCH_ALL_DOMAIN, world.ALIAS_DOMAIN)],
    )
    insert("domain (domain, transport)", [(world.RELAY_DOMAIN, world.RELAY_TRANSPORT)])
    insert("domain (domain, active)", [(world.INACTIVE_DOMAIN, 0)])
    insert(
        "alias_domain (alias_domain, target_domain)",
        [(world.ALIAS_DOMAIN, world.ALIAS_DOMAIN_TARGET)],
    )
    mailboxes = [
        (f"{user}@{domain}", "{BLF-CRYPT}$2y$05$x", f"{domain}/{user}/", user, domain)
        for user, domain in world.mailboxes()
    ]
    insert("mailbox (username, password, maildir, local_part, domain)", mailboxes)
    insert(
        "alias (address, goto, domain)",
        [(f"{user}@{domain}", f"{user}@{domain}", domain) for user, domain in world.mailboxes()],
    )
    insert(
        "alias (address, goto, domain)",
        [(alias, ",".join(targets), alias.partition("@")[2]) for alias, targets in world.aliases()],
    )
    insert(
        "alias (address, goto, domain)",
        [(f"@{world.CATCH_ALL_DOMAIN}", world.CATCH_ALL_TARGET, world.CATCH_ALL_DOMAIN)],
    )
    insert(
        "alias (address, goto, domain, active)",
        [("old@d00.example", "user00@d00.example", "d00.example", 0)],
    )


POSTFIXADMIN = Stack(
    name="postfixadmin",
    schema="""
CREATE TABLE domain (
  domain varchar(255) NOT NULL PRIMARY KEY, transport varchar(255) NOT NULL DEFAULT 'virtual', backupmx tinyint(1) NOT NULL DEFAULT 0,
  active tinyint(1) NOT NULL DEFAULT 1
) DEFAULT CHARSET=latin1;
CREATE TABLE alias (
  address varchar(255) NOT NULL PRIMARY KEY, goto text NOT NULL, domain varchar(255) NOT NULL, active tinyint(1) NOT NULL DEFAULT 1,
  KEY domain (domain)
) DEFAULT CHARSET=latin1;
CREATE TABLE alias_domain (
  alias_domain varchar(255) NOT NULL PRIMARY KEY, target_domain varchar(255) NOT NULL, active tinyint(1) NOT NULL DEFAULT 1,
  KEY active (active), KEY target_domain (target_domain)
) DEFAULT CHARSET=latin1;
CREATE TABLE mailbox (
  username varchar(255) NOT NULL PRIMARY KEY, password varchar(255) NOT NULL, maildir varchar(255) NOT NULL,
  local_part varchar(255) NOT NULL, quota bigint NOT NULL DEFAULT 0, domain varchar(255) NOT NULL,
  active tinyint(1) NOT NULL DEFAULT 1, KEY domain (domain)
) DEFAULT CHARSET=latin1;
""",
    fill=_fill,
    queries={
        "virtual_alias_maps": ("SELECT goto FROM alias WHERE address = '%s' AND active = '1'", ""),
        "virtual_alias_domain_maps": (
            (
                "SELECT goto FROM alias, alias_domain WHERE alias_domain.alias_domain = '%d'"
                " AND alias.address = CONCAT('%u', '@', alias_domain.target_domain) AND "
                "alias.active = '1' AND alias_domain.active = '1'"
            ),
            "",
        ),
        "virtual_alias_domain_catchall_maps": (
            (
                "SELECT goto FROM alias, alias_domain WHERE alias_domain.alias_domain = '%d'"
                " AND alias.address = CONCAT('@', alias_domain.target_domain) AND alias.active = "
                "'1' AND alias_domain.active = '1'"
            ),
            "# the target domain's catch-all\n",
        ),
        "virtual_domains_maps": (
            "SELECT domain FROM domain WHERE domain = '%s' AND active = '1'",
            "#expansion_limit = 100\n",
        ),
        "virtual_mailbox_maps": (
            "SELECT maildir FROM mailbox WHERE username = '%s' AND active = '1'",
            "",
        ),
        "virtual_alias_domain_mailbox_maps": (
            (
                "SELECT maildir FROM mailbox, alias_domain WHERE alias_domain.alias_domain = '%d'"
                " AND mailbox.username = CONCAT('%u', '@', alias_domain.target_domain) AND mailbox.active = '1'"
                " AND alias_domain.active = '1'"
            ),
            "",
        ),
        "relay_domains": (
            (
                "SELECT domain FROM domain WHERE domain = '%s' AND active = '1' AND (transport LIKE "
                "'smtp%%' OR transport LIKE 'relay%%')"
            ),
            "",
        ),
        "transport_maps": (
            "SELECT REPLACE(transport, 'virtual', ':') FROM domain WHERE domain = '%s' AND active = '1'",
            "",
        ),
        "login_maps": ("SELECT username FROM mailbox WHERE username = '%s' AND active = '1'", ""),
    },
    main_cf="""
sql = proxy:mysql:{cf}
virtual_mailbox_domains = ${{sql}}/virtual_domains_maps.cf
virtual_alias_maps =
   proxy:mysql:{cf}/virtual_alias_maps.cf,
   proxy:mysql:{cf}/virtual_alias_domain_maps.cf,
   proxy:mysql:{cf}/virtual_alias_domain_catchall_maps.cf
virtual_mailbox_maps =
   proxy:mysql:{cf}/virtual_mailbox_maps.cf,
   proxy:mysql:{cf}/virtual_alias_domain_mailbox_maps.cf
relay_domains = proxy:mysql:{cf}/relay_domains.cf
transport_maps = proxy:mysql:{cf}/transport_maps.cf
smtpd_sender_login_maps = proxy:mysql:{cf}/login_maps.cf
smtpd_sender_restrictions = reject_sender_login_mismatch
virtual_transport = lmtp:unix:private/dovecot-lmtp
""",
)
