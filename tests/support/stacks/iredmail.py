"""iRedMail: sixteen maps; catch-alls keyed by the bare domain, per-user transports, blind copies, relays by sender."""

from __future__ import annotations

from support.stacks import world
from support.stacks.stack import Insert, Stack


def _fill(insert: Insert) -> None:
    insert("domain (domain)", [(domain,) for domain in (*world.DOMAINS, world.CATCH_ALL_DOMAIN)])
    insert("domain (domain, backupmx)", [(world.RELAY_DOMAIN, 1)])
    insert("domain (domain, active)", [(world.INACTIVE_DOMAIN, 0)])
    insert(
        "alias_domain (alias_domain, target_domain)",
        [(world.ALIAS_DOMAIN, world.ALIAS_DOMAIN_TARGET)],
    )
    mailboxes = [
        (f"{user}@{domain}", "{SSHA512}x", "vmail1", f"{domain}/{user}/", domain)
        for user, domain in world.mailboxes()
    ]
    insert("mailbox (username, password, storagenode, maildir, domain)", mailboxes)
    rows = [
        (address, address, domain)
        for user, domain in world.mailboxes()
        for address in [f"{user}@{domain}"]
    ]
    rows += [
        (alias, target, alias.partition("@")[2])
        for alias, targets in world.aliases()
        for target in targets
    ]
    rows += [(world.CATCH_ALL_DOMAIN, world.CATCH_ALL_TARGET, world.CATCH_ALL_DOMAIN)]
    insert("forwardings (address, forwarding, domain)", rows)
    insert(
        "maillists (address, domain, transport)",
        [("list@d10.example", "d10.example", "mlmmj:d10.example/list")],
    )
    insert(
        "sender_bcc_user (username, bcc_address, domain)",
        [("user03@d00.example", "archive@d00.example", "d00.example")],
    )
    insert("sender_bcc_domain (domain, bcc_address)", [("d11.example", "archive@d11.example")])
    insert(
        "recipient_bcc_user (username, bcc_address, domain)",
        [("user00@d00.example", "copy@d00.example", "d00.example")],
    )
    insert("recipient_bcc_domain (domain, bcc_address)", [("d01.example", "copy@d01.example")])
    insert(
        "sender_relayhost (account, relayhost)",
        [("@d12.example", "[192.0.2.9]:587"), ("user01@d12.example", "[192.0.2.8]:587")],
    )


def _of_domain(text: str) -> str:
    return text + " AND domain.backupmx = 0 AND domain.active = 1"


def _bcc_user(side: str) -> str:
    name = f"{side}_bcc_user"
    return _of_domain(
        f"SELECT {name}.bcc_address FROM {name}, domain WHERE {name}.username = '%s' AND {name}.domain = '%d'"
        f" AND {name}.domain = domain.domain AND {name}.active = 1"
    )


def _bcc_domain(side: str) -> str:
    name = f"{side}_bcc_domain"
    joined = f"{name}, domain WHERE {name}.domain = '%d' AND {name}.domain = domain.domain"
    return f"SELECT {name}.bcc_address FROM {joined} AND domain.active = 1"


IREDMAIL = Stack(
    name="iredmail",
    schema="""
CREATE TABLE domain (
  domain varchar(255) NOT NULL PRIMARY KEY, transport varchar(255) NOT NULL DEFAULT 'dovecot', backupmx tinyint(1) NOT NULL DEFAULT 0,
  active tinyint(1) NOT NULL DEFAULT 1
) DEFAULT CHARSET=utf8mb4;
CREATE TABLE alias_domain (
  alias_domain varchar(255) NOT NULL PRIMARY KEY, target_domain varchar(255) NOT NULL, active tinyint(1) NOT NULL DEFAULT 1
) DEFAULT CHARSET=utf8mb4;
CREATE TABLE mailbox (
  username varchar(255) NOT NULL PRIMARY KEY, password varchar(255) NOT NULL, storagenode varchar(255) NOT NULL,
  maildir varchar(255) NOT NULL, domain varchar(255) NOT NULL, transport varchar(255) NOT NULL DEFAULT '',
  active tinyint(1) NOT NULL DEFAULT 1,
  storagebasedirectory varchar(255) NOT NULL DEFAULT '/var/vmail', mailboxformat varchar(50) NOT NULL DEFAULT 'maildir',
  mailboxfolder varchar(50) NOT NULL DEFAULT 'Maildir', quota bigint NOT NULL DEFAULT 0, allow_nets text DEFAULT NULL,
  enableimap tinyint(1) NOT NULL DEFAULT 1, enableimapsecured tinyint(1) NOT NULL DEFAULT 1,
  enablesmtp tinyint(1) NOT NULL DEFAULT 1, enabledeliver tinyint(1) NOT NULL DEFAULT 1, KEY domain (domain)
) DEFAULT CHARSET=utf8mb4;
CREATE TABLE forwardings (
  id bigint AUTO_INCREMENT PRIMARY KEY, address varchar(255) NOT NULL, forwarding varchar(255) NOT NULL, domain varchar(255) NOT NULL,
  active tinyint(1) NOT NULL DEFAULT 1, UNIQUE KEY (address, forwarding), KEY (domain)
) DEFAULT CHARSET=utf8mb4;
CREATE TABLE maillists (
  id bigint AUTO_INCREMENT PRIMARY KEY, address varchar(255) NOT NULL UNIQUE, domain varchar(255) NOT NULL, transport varchar(255) NOT NULL,
  active tinyint(1) NOT NULL DEFAULT 1
) DEFAULT CHARSET=utf8mb4;
CREATE TABLE sender_bcc_user (
  username varchar(255) NOT NULL PRIMARY KEY, bcc_address varchar(255) NOT NULL, domain varchar(255) NOT NULL,
  active tinyint(1) NOT NULL DEFAULT 1
) DEFAULT CHARSET=utf8mb4;
CREATE TABLE recipient_bcc_user LIKE sender_bcc_user;
CREATE TABLE sender_bcc_domain (domain varchar(255) NOT NULL PRIMARY KEY, bcc_address varchar(255) NOT NULL) DEFAULT CHARSET=utf8mb4;
CREATE TABLE recipient_bcc_domain LIKE sender_bcc_domain;
CREATE TABLE sender_relayhost (
  id bigint AUTO_INCREMENT PRIMARY KEY, account varchar(255) NOT NULL UNIQUE, relayhost varchar(255) NOT NULL
) DEFAULT CHARSET=utf8mb4;
""",
    fill=_fill,
    queries={
        "transport_maps_user": (
            _of_domain(
                "SELECT mailbox.transport FROM mailbox, domain WHERE mailbox.username = '%s' AND mailbox.domain = '%d'"
                " AND mailbox.domain = domain.domain AND mailbox.transport <> '' AND "
                "mailbox.active = 1 AND mailbox.enabledeliver = 1"
            ),
            "",
        ),
        "transport_maps_maillist": (
            (
                "SELECT maillists.transport FROM maillists, domain WHERE maillists.address = "
                "'%s' AND maillists.active = 1"
                " AND maillists.domain = domain.domain AND domain.active = 1"
            ),
            "",
        ),
        "transport_maps_domain": (
            "SELECT transport FROM domain WHERE domain = '%s' AND active = 1 LIMIT 1",
            "",
        ),
        "sender_dependent_relayhost_maps": (
            "SELECT relayhost FROM sender_relayhost WHERE account = '%s' LIMIT 1",
            "",
        ),
        "sender_login_maps": (
            _of_domain(
                "SELECT mailbox.username FROM mailbox, domain WHERE mailbox.username = '%s' AND mailbox.domain = '%d'"
                " AND mailbox.domain = domain.domain AND mailbox.enablesmtp = 1 AND mailbox.active = 1"
            ),
            "",
        ),
        "virtual_mailbox_domains": (
            (
                "(SELECT domain FROM domain WHERE domain = '%s' AND backupmx = 0 AND active = 1 LIMIT 1) UNION"
                " (SELECT alias_domain.alias_domain FROM alias_domain, domain WHERE alias_domain.alias_domain = '%s'"
                " AND alias_domain.active = 1 AND alias_domain.target_domain = domain.domain AND domain.active = 1"
                " AND domain.backupmx = 0 LIMIT 1)"
            ),
            "",
        ),
        "relay_domains": (
            "SELECT domain FROM domain WHERE domain = '%s' AND backupmx = 1 AND active = 1 LIMIT 1",
            "",
        ),
        "virtual_mailbox_maps": (
            (
                "SELECT CONCAT(mailbox.storagenode, '/', mailbox.maildir, '/Maildir/') FROM "
                "mailbox, domain WHERE mailbox.username = '%s'"
                " AND mailbox.active = 1 AND mailbox.enabledeliver = 1 AND domain.domain = "
                "mailbox.domain AND domain.active = 1"
            ),
            "",
        ),
        "virtual_alias_maps": (
            _of_domain(
                "SELECT forwardings.forwarding FROM forwardings, domain WHERE forwardings.address = '%s'"
                " AND forwardings.domain = domain.domain AND forwardings.active = 1"
            ),
            "",
        ),
        "domain_alias_maps": (
            (
                "SELECT forwardings.forwarding FROM forwardings, alias_domain, domain WHERE "
                "alias_domain.alias_domain = '%d'"
                " AND forwardings.address = CONCAT('%u', '@', alias_domain.target_domain)"
                " AND alias_domain.target_domain = domain.domain"
                " AND forwardings.active = 1 AND alias_domain.active = 1 AND domain.backupmx = 0"
            ),
            "",
        ),
        "catchall_maps": (
            _of_domain(
                "SELECT forwardings.forwarding FROM forwardings, domain WHERE "
                "forwardings.address = '%d' AND '%u' NOT LIKE '%%+%%'"
                " AND forwardings.address = domain.domain AND forwardings.active = 1"
            ),
            "",
        ),
        "domain_alias_catchall_maps": (
            (
                "SELECT forwardings.forwarding FROM forwardings, alias_domain, domain WHERE "
                "alias_domain.alias_domain = '%d'"
                " AND forwardings.address = alias_domain.target_domain AND alias_domain.target_domain = domain.domain"
                " AND forwardings.active = 1 AND alias_domain.active = 1"
            ),
            "",
        ),
        "sender_bcc_maps_user": (_bcc_user("sender"), ""),
        "sender_bcc_maps_domain": (_bcc_domain("sender"), ""),
        "recipient_bcc_maps_user": (_bcc_user("recipient"), ""),
        "recipient_bcc_maps_domain": (_bcc_domain("recipient"), ""),
    },
    main_cf="""
transport_maps =
    proxy:mysql:{cf}/transport_maps_user.cf
    proxy:mysql:{cf}/transport_maps_maillist.cf
    proxy:mysql:{cf}/transport_maps_domain.cf
sender_dependent_relayhost_maps =
    proxy:mysql:{cf}/sender_dependent_relayhost_maps.cf
smtpd_sender_login_maps =
    proxy:mysql:{cf}/sender_login_maps.cf
smtpd_sender_restrictions = reject_sender_login_mismatch
virtual_mailbox_domains =
    proxy:mysql:{cf}/virtual_mailbox_domains.cf
relay_domains =
    $mydestination
    proxy:mysql:{cf}/relay_domains.cf
virtual_mailbox_maps =
    proxy:mysql:{cf}/virtual_mailbox_maps.cf
virtual_alias_maps =
    proxy:mysql:{cf}/virtual_alias_maps.cf
    proxy:mysql:{cf}/domain_alias_maps.cf
    proxy:mysql:{cf}/catchall_maps.cf
    proxy:mysql:{cf}/domain_alias_catchall_maps.cf
sender_bcc_maps =
    proxy:mysql:{cf}/sender_bcc_maps_user.cf
    proxy:mysql:{cf}/sender_bcc_maps_domain.cf
recipient_bcc_maps =
    proxy:mysql:{cf}/recipient_bcc_maps_user.cf
    proxy:mysql:{cf}/recipient_bcc_maps_domain.cf
virtual_alias_domains =
virtual_transport = dovecot
proxy_read_maps = $recipient_bcc_maps $sender_bcc_maps $relay_domains $smtpd_sender_login_maps $transport_maps $virtual_alias_maps
  $virtual_mailbox_domains $virtual_mailbox_maps $sender_dependent_relayhost_maps
""",
)
