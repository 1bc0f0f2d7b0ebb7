"""Three whole mail hosts of different style, moved to mailmapd and back, with SMTP, LMTP and IMAP at every stage.

panel      a control panel's: everything by way of proxymap, values that refer to each other, an old
           compatibility level, tables in the older form of mysql_table(5)
container  a container's: bundles, files in front of tables, memcached in front of MySQL, options of
           services, classes of restrictions, checks of headers
classic    a grown host's: local users beside virtual ones, aliases shared with local(8), "-" as
           delimiter, smtputf8 off, domains in mydestination, canonical addresses
"""

from __future__ import annotations

import imaplib
import os
import re
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.daemon import Daemon
from support.dovecot import Dovecot
from support.installation import Installation, block, paste
from support.mariadb import MariaDB, private_directory
from support.postfix import Postfix
from support.process import wait_until
from support.shipped import shipped

pytestmark = [pytest.mark.servers, pytest.mark.root]

USER, PASSWORD, OWNER = "mail", "pass-word-1", "5000"
SCHEMA = """
CREATE TABLE accounts (address varchar(100) PRIMARY KEY, domain varchar(60) NOT NULL, secret varchar(100) NOT NULL,
  active int NOT NULL DEFAULT 1, KEY (domain)) DEFAULT CHARSET=utf8mb4;
CREATE TABLE forwards (source varchar(100) PRIMARY KEY, target varchar(200) NOT NULL) DEFAULT CHARSET=utf8mb4;
CREATE TABLE domains (name varchar(60) PRIMARY KEY, kind varchar(10) NOT NULL) DEFAULT CHARSET=utf8mb4;
CREATE TABLE rules (name varchar(100) PRIMARY KEY, verdict varchar(60) NOT NULL) DEFAULT CHARSET=utf8mb4;
INSERT INTO domains VALUES ('one.test', 'mail'), ('two.test', 'mail'), ('host.test', 'local'), ('relay.test', 'relay');
INSERT INTO accounts (address, domain, secret) VALUES ('ann@one.test', 'one.test', '{PLAIN}a'),
  ('bob@one.test', 'one.test', '{PLAIN}b'), ('ann@two.test', 'two.test', '{PLAIN}c');
INSERT INTO accounts VALUES ('gone@one.test', 'one.test', '{PLAIN}x', 0);
INSERT INTO forwards VALUES ('info@one.test', 'ann@one.test, bob@one.test'), ('@two.test', 'ann@two.test'),
  ('far@one.test', 'someone@elsewhere.test'), ('root', 'ann@one.test'), ('helper', 'bob@one.test'),
  ('ann@two.test', 'ann@two.test'), ('move@one.test', '@two.test'), ('fixed@one.test', 'bob+note@one.test');
INSERT INTO rules VALUES ('bad.test', 'REJECT bad domain'), ('list@one.test', 'REJECT no list'), ('127.0.0', 'DUNNO'),
  ('strict@other.test', 'strict'), ('old@one.test', 'ann@one.test'), ('192.0.2', 'REJECT net');
"""
QUERIES = {
    "domains": "SELECT name FROM domains WHERE name = '%s' AND kind = 'mail'",
    "local": "SELECT name FROM domains WHERE name = '%s' AND kind = 'local'",
    "relay": "SELECT name FROM domains WHERE name = '%s' AND kind = 'relay'",
    "mailboxes": "SELECT CONCAT(domain, '/', '%u') FROM accounts WHERE address = '%s' AND active = 1",
    "forwards": "SELECT target FROM forwards WHERE source = '%s'",
    "owners": "SELECT address FROM accounts WHERE address = '%s' AND active = 1",
    "rules": "SELECT verdict FROM rules WHERE name = '%s'",
    "headers": "SELECT IF('%s' REGEXP BINARY 'LOTTERY', 'REJECT lottery', NULL)",
}

PANEL = """
compatibility_level = 0
maps = proxy:mysql:{cf}
virtual_mailbox_domains = $maps/domains.cf
virtual_mailbox_maps = ${{maps}}/mailboxes.cf
virtual_alias_maps = $(maps)/forwards.cf
 $maps/owners.cf
alias_maps = $virtual_alias_maps
local_recipient_maps =
mydestination = localhost, $maps/local.cf
smtpd_sender_login_maps = $virtual_mailbox_maps
smtpd_recipient_restrictions = check_sender_access $maps/rules.cf, reject_unauth_destination
recipient_delimiter = +
"""
CONTAINER = """
virtual_mailbox_domains = inline:{{three.test=x}}, mysql:{cf}/domains.cf
virtual_mailbox_maps = unionmap:{{mysql:{cf}/mailboxes.cf}}
virtual_alias_maps = texthash:{cf}/fixed, proxy:memcache:{cf}/mc.cf, mysql:{cf}/owners.cf
relay_domains = proxy:mysql:{cf}/relay.cf
smtpd_restriction_classes = strict
strict = check_recipient_access mysql:{cf}/rules.cf, reject
smtpd_sender_restrictions = check_sender_access mysql:{cf}/rules.cf
header_checks = mysql:{cf}/headers.cf
recipient_delimiter = +
"""
CLASSIC = """
smtputf8_enable = no
inet_interfaces = 127.0.0.1
recipient_delimiter = -
mydestination = host.test, mysql:{cf}/local.cf
myorigin = host.test
virtual_mailbox_domains = mysql:{cf}/domains.cf
virtual_mailbox_maps = mysql:{cf}/mailboxes.cf
virtual_alias_maps = mysql:{cf}/forwards.cf
virtual_alias_domains =
canonical_maps = mysql:{cf}/rules.cf
local_recipient_maps = static:x
fast_flush_domains = $relay_domains
relay_domains = mysql:{cf}/relay.cf
authorized_submit_users = static:anyone
"""
STYLES = {"panel": PANEL, "container": CONTAINER, "classic": CLASSIC}
MASTER = {"container": "smtpd_client_restrictions=check_client_access,mysql:{cf}/rules.cf"}

SENDERS = ("", "someone@other.test", "x@sub.bad.test", "strict@other.test")
RECIPIENTS = (
    *("ann@one.test", "ANN+x@One.test", "ann-x@one.test", "gone@one.test", "nobody@one.test"),
    *("any@two.test", "far@one.test", "move+y@one.test", "move-y@one.test", "list@one.test"),
    *("root@host.test", "helper@sub.host.test", "x@relay.test", "x@sub.relay.test", "x@three.test"),
    *("x@elsewhere.test", "old@one.test", '"ann"@one.test', "ünn@one.test", "fixed@one.test"),
)
DELIVERED = {"info@one.test": "ab", "any@two.test": "c", "ann@one.test": "a"}
"""What is sent, and the passwords of the users who must find it."""
ADDRESSES = {"a": "ann@one.test", "b": "bob@one.test", "c": "ann@two.test"}


@dataclass
class Host:
    """One mail host."""

    installation: Installation
    dovecot: Dovecot
    sql: Path
    style: str
    stage: int = 0

    def look(self) -> dict[str, object]:
        """Return what clients see: replies, verdicts on headers, and whose mailbox a message reaches."""
        self.stage += 1
        postfix = self.installation.postfix
        seen: dict[str, object] = {
            sender: [
                re.sub(r"\[\d+\]", "", r) for r in self.installation.replies(sender, RECIPIENTS)
            ]
            for sender in SENDERS
        }
        seen["header"] = _with_header(postfix, b"Subject: LOTTERY")
        for recipient, passwords in DELIVERED.items():
            subject = f"{self.stage} {recipient}"
            text = f"Subject: {subject}\r\n\r\ntext\r\n"
            seen[recipient] = postfix.send("someone@other.test", [recipient], text)
            for password in passwords:
                self.wait_for(subject, password)
        seen["logins"] = [self.logs_in(user, "wrong") for user in ADDRESSES.values()]
        seen["gone"] = self.logs_in("gone@one.test", "x")
        seen["logged"] = "table lookup problem" in postfix.text() or "fatal" in postfix.text()
        return seen

    def wait_for(self, subject: str, password: str) -> None:
        """Wait until a message is in a user's mailbox."""
        wait_until(lambda: subject in self.subjects(password), f"{subject} by IMAP")

    def subjects(self, password: str) -> list[str]:
        """Return the subjects in a user's mailbox."""
        with imaplib.IMAP4("127.0.0.1", self.dovecot.ports["imap"], timeout=60) as session:
            session.login(ADDRESSES[password], password)
            _, (count,) = session.select("INBOX", readonly=True)
            wanted = "(BODY.PEEK[HEADER.FIELDS (SUBJECT)])"
            found = session.fetch("1:*", wanted)[1] if int(count or b"0") else []
        lines = [part[1].decode() for part in found if isinstance(part, tuple)]
        return [line.strip().removeprefix("Subject: ") for line in lines]

    def logs_in(self, user: str, password: str) -> bool:
        """Return whether IMAP takes a password."""
        try:
            with imaplib.IMAP4("127.0.0.1", self.dovecot.ports["imap"], timeout=60) as session:
                session.login(user, password)
        except imaplib.IMAP4.error:
            return False
        return True

    def reload_dovecot(self, old: str, new: str) -> None:
        """Give Dovecot another driver and its file, and start it anew."""
        self.dovecot.stop()
        self.dovecot.config.write_text(self.dovecot.config.read_text().replace(old, new))
        self.dovecot.start()


def _with_header(postfix: Postfix, header: bytes) -> str:
    """Return the reply to a message with this header, without the queue's name for it."""
    with postfix.smtp() as session:
        session.mail("someone@other.test")
        session.rcpt("ann@one.test")
        session.command("DATA")
        return re.sub(r"queued as \S+", "queued", session.command(header + b"\r\n\r\ntext\r\n."))


@contextmanager
def running(mariadb: MariaDB, style: str) -> Iterator[Host]:
    """Set a host up on its own tables."""
    database = f"whole_{style}"
    mariadb.run_sql(f"DROP DATABASE IF EXISTS {database}; CREATE DATABASE {database}")
    mariadb.run_sql(SCHEMA, database=database)
    mariadb.grant(USER, PASSWORD, database)
    with ExitStack() as stack:
        folder = stack.enter_context(private_directory())
        cf = folder / "sql"
        cf.mkdir()
        for name, query in QUERIES.items():
            text = f"hosts = unix:{mariadb.socket}\nuser = {USER}\npassword = {PASSWORD}\ndbname = {database}\n"
            older = "table = forwards\nselect_field = target\nwhere_field = source\n"
            asked = older if (style, name) == ("panel", "forwards") else f"query = {query}\n"
            (cf / f"{name}.cf").write_text(text + asked)
        (cf / "fixed").write_text("far@one.test near@elsewhere.test\n")
        memcache = f"memcache = inet:127.0.0.1:9\nmax_try = 1\nbackup = mysql:{cf}/forwards.cf\n"
        (cf / "mc.cf").write_text(memcache)
        basics = {"header_checks": "", "default_transport": "discard", "relay_transport": "discard"}
        basics |= {
            "local_transport": "discard",
            "virtual_transport": "lmtp:unix:private/dovecot-lmtp",
        }
        postfix = Postfix(folder, basics)
        installation = Installation(USER, mariadb, postfix, folder)
        main, master = postfix.config / "main.cf", postfix.config / "master.cf"
        # each parameter once: of many that are set twice Postfix's master warns before anybody takes its log
        own = STYLES[style].format(cf=cf)
        names = "|".join(re.findall(r"(?m)^(\w+) =", own))
        main.write_text(re.sub(rf"(?m)^({names}) =.*\n", "", main.read_text()) + own)
        if style in MASTER:
            option = f" smtpd\n  -o {MASTER[style].format(cf=cf)}\n"
            master.write_text(master.read_text().replace(" smtpd\n", option, 1))
        for file in (main, master):
            os.utime(file, (time.time() - 60,) * 2)
        sql = folder / "dovecot-sql.conf.ext"
        sql.write_text(
            f"driver = mysql\nconnect = host={mariadb.socket} dbname={database} user={USER} password={PASSWORD}\n"
            "password_query = SELECT address AS user, secret AS password FROM accounts WHERE address = '%u' AND active = 1\n"
            f"user_query = SELECT '{folder}/mail/%d/%n' AS home, {OWNER} AS uid, {OWNER} AS gid FROM accounts WHERE address = '%u'\n"
        )
        dovecot = Dovecot(_dovecot_directory(folder), _dovecot_settings(postfix, sql))
        stack.enter_context(postfix)
        stack.enter_context(dovecot)
        yield Host(installation, dovecot, sql, style)


def _dovecot_directory(folder: Path) -> Path:
    (folder / "mail").mkdir()
    os.chown(folder / "mail", int(OWNER), int(OWNER))
    (folder / "dovecot").mkdir()
    return folder / "dovecot"


def _dovecot_settings(postfix: Postfix, sql: Path) -> str:
    sections = "".join(
        f"{kind} {{\n  driver = sql\n  args = {sql}\n}}\n" for kind in ("passdb", "userdb")
    )
    return (
        f"{sections}recipient_delimiter = +-\nservice lmtp {{\n  unix_listener "
        f"{postfix.queue_directory}/private/dovecot-lmtp {{\n    mode = 0666\n  }}\n}}\n"
    )


@pytest.mark.parametrize("style", STYLES)
def test_a_whole_host_moves_there_and_back(mariadb: MariaDB, style: str) -> None:
    """SMTP, delivery and IMAP are the same before the move, after it and after the way back; files
    come back byte for byte.
    """
    with running(mariadb, style) as host:
        installation, postfix = host.installation, host.installation.postfix
        originals = {
            name: (postfix.config / name).read_bytes() for name in ("main.cf", "master.cf")
        }
        before = host.look()
        assert before["logins"] == [False] * 3
        config = installation.folder / "mailmapd" / "mailmapd.toml"
        options = ("--postfix", str(postfix.config), "--dovecot-sql", str(host.sql))
        imported = installation.mailmapd("import", *options, "--output", str(config))
        assert imported.returncode == 0, imported.stderr
        assert config.read_text().count("[database.") == 1
        postfix.link_socket("mailmapd/socketmap")
        text = re.sub(r"(?m)^(http|control|lookup_http) = .*\n", "", config.read_text())
        text = text.replace("/run/mailmapd/", f"{config.parent}/")
        files = host.dovecot.directory / "mailmapd-auth.conf.ext"
        moved = {"/run/mailmapd/": f"{config.parent}/"}
        files.write_text(shipped("dovecot/2.3/mailmapd-auth.conf.ext", moved))
        old, new = (
            f"driver = {driver}\n  args = {file}"
            for driver, file in (("sql", host.sql), ("dict", files))
        )
        with Daemon(config.parent, text):
            installation.verify(config, "--limit", "300")
            paste(block(imported.stdout, "Switch over"))
            installation.settle()
            host.reload_dovecot(old, new)
            assert host.look() == before
            paste(block(imported.stdout, "Switch back"))
            installation.settle()
            host.reload_dovecot(new, old)
        assert host.look() == before
        assert {name: (postfix.config / name).read_bytes() for name in originals} == originals
