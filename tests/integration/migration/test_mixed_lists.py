"""Lists that mix mysql.

With other tables, options in master.cf, restrictions and classes: the move changes no answer.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator

import pytest

from support import tutorial
from support.daemon import Daemon
from support.installation import Installation, block, paste
from support.mariadb import MariaDB, private_directory
from support.postfix import Postfix

pytestmark = [pytest.mark.servers, pytest.mark.root]

EXTRA = """
CREATE TABLE more (name varchar(128) NOT NULL PRIMARY KEY, value varchar(128) NOT NULL);
INSERT INTO more VALUES
  ('alice@example.com', 'sql-alice@elsewhere.test'), ('@example.net', 'sql-all@elsewhere.test'),
  ('bob@example.org', 'sql-bob@elsewhere.test'), ('relay.test', 'relayed'), ('carol@example.com', 'sql-carol@elsewhere.test'),
  ('@example.org', 'sql-org@elsewhere.test');
CREATE TABLE access (name varchar(128) NOT NULL PRIMARY KEY, value varchar(128) NOT NULL);
INSERT INTO access VALUES
  ('denied@example.com', 'REJECT denied'), ('bad.test', 'REJECT bad domain'), ('127.0.0', 'DUNNO'), ('strict@outside.test', 'strict'),
  ('eve@', 'REJECT eve anywhere'), ('dave@example.com', 'OK'), ('static.test', '450 4.2.1 later');
"""

MAIN_CF = """
recipient_delimiter = +-
mydestination = local.test
db = mysql:{sql}
virtual_mailbox_domains = inline:{{static.test=x}}, ${{db}}/domains.cf, other.test
virtual_alias_domains =
virtual_mailbox_maps = pcre:{sql}/pcre, {db}/mailboxes.cf
# a fixed table in front, one behind, and two of ours apart
virtual_alias_maps = texthash:{sql}/aliases, {db}/more.cf,
  pcre:{sql}/alias-pcre, {db}/aliases.cf
  texthash:{sql}/last
relay_domains = $mydestination, !refused.test, {db}/more.cf .dotted.test
smtpd_restriction_classes = strict
strict = check_recipient_access {db}/access.cf, reject
smtpd_client_restrictions = check_client_access {db}/access.cf
smtpd_recipient_restrictions = check_sender_access {db}/access.cf
  check_recipient_access inline:{{held@example.com=HOLD}} check_recipient_access {db}/access.cf
virtual_transport = lmtp:unix:private/dovecot-lmtp
"""

SENDERS = (
    "",
    "someone@outside.test",
    "denied@example.com",
    "x@bad.test",
    "x@sub.bad.test",
    "strict@outside.test",
    "strict+y@outside.test",
)
RECIPIENTS = (
    *(
        "alice@example.com",
        "alice+ext@example.com",
        "alice-ext@example.com",
        "bob+x@example.org",
        "carol@example.com",
        "carol+x@example.com",
    ),
    *(
        "dave@example.com",
        "dave+x@example.com",
        "eve-x@example.com",
        "nobody@example.com",
        "nobody+x@example.net",
        "any@example.org",
    ),
    *(
        "denied@example.com",
        "denied+x@example.com",
        "held@example.com",
        "team+x@example.com",
        "move+x@example.com",
        "file@example.com",
    ),
    *(
        "file+x@example.com",
        "pattern7@example.com",
        "pattern7+x@example.com",
        "x@static.test",
        "x@other.test",
        "x@relay.test",
    ),
    *(
        "x@sub.relay.test",
        "x@refused.test",
        "x@a.dotted.test",
        "root@local.test",
        "helpdesk+x@local.test",
        '"a b"@example.com',
    ),
)


@pytest.fixture
def installation(mariadb: MariaDB) -> Iterator[Installation]:
    """A Postfix whose lists hold tables of every kind."""
    tutorial.create(mariadb, "mixed")
    mariadb.run_sql(EXTRA, database="mixed")
    queries = {
        "domains": tutorial.QUERIES["maildomain"],
        "mailboxes": tutorial.QUERIES["mailbox"],
        "aliases": tutorial.QUERIES["alias"],
        "more": "SELECT value FROM more WHERE name = '%s'",
        "access": "SELECT value FROM access WHERE name = '%s'",
    }
    with private_directory() as folder:
        sql = folder / "sql"
        sql.mkdir()
        for name, path in tutorial.write_cf(mariadb, sql, "mixed", queries).items():
            path.rename(sql / f"{name}.cf")
        (sql / "pcre").write_text("/^pattern\\d/ x\n")
        (sql / "alias-pcre").write_text(
            "/^pattern(\\d)@/ pcre-$1@elsewhere.test\n/^carol\\+x@/ pcre-carol@elsewhere.test\n"
        )
        (sql / "aliases").write_text(
            "file@example.com file@elsewhere.test\ndave@example.com file-dave@elsewhere.test\n"
        )
        (sql / "last").write_text(
            "bob@example.org last-bob@elsewhere.test\n@example.com last-all@elsewhere.test\n"
        )
        postfix = Postfix(folder, {"smtpd_reject_unlisted_sender": "no"}, services="")
        main_cf, master_cf = postfix.config / "main.cf", postfix.config / "master.cf"
        main_cf.write_text(main_cf.read_text() + MAIN_CF.format(sql=sql, db="mysql:" + str(sql)))
        options = (
            f" smtpd\n  -o smtpd_data_restrictions=check_sender_access,mysql:{sql}/access.cf\n"
        )
        master_cf.write_text(master_cf.read_text().replace(" smtpd\n", options, 1))
        for path in (main_cf, master_cf):
            os.utime(path, (time.time() - 60,) * 2)
        with postfix:
            yield Installation(tutorial.USER, mariadb, postfix, folder)


def test_mixed_lists_move_without_a_change(installation: Installation) -> None:
    """Tables of other kinds keep their rank, restrictions their verdicts, and both files come back byte for byte."""
    postfix, folder = installation.postfix, installation.folder
    originals = {name: (postfix.config / name).read_bytes() for name in ("main.cf", "master.cf")}
    before = installation.sessions(SENDERS, RECIPIENTS)
    assert "4.3.5" not in str(before)
    config = folder / "mailmapd" / "mailmapd.toml"
    imported = installation.mailmapd(
        "import", "--postfix", str(postfix.config), "--output", str(config)
    )
    assert imported.returncode == 0, imported.stderr
    assert (
        "unionmap:{texthash:/dev/null,socketmap:unix:mailmapd/socketmap:virtual_alias_maps}"
        in imported.stdout
    )
    postfix.link_socket("mailmapd/socketmap")
    text = re.sub(r"(?m)^(http|control) = .*\n", "", config.read_text())
    with Daemon(config.parent, text):
        (postfix.queue_directory / "mailmapd/socketmap").chmod(0o666)
        installation.verify(config)
        paste(block(imported.stdout, "Switch over"))
        assert b"mysql:" not in re.sub(
            rb"(?m)^(db|fast_flush_domains) =.*$", b"", (postfix.config / "main.cf").read_bytes()
        )
        assert b"mysql:" not in (postfix.config / "master.cf").read_bytes()
        installation.settle()
        installation.server.log_queries()
        after = installation.sessions(SENDERS, RECIPIENTS)
        assert after == before
        paste(block(imported.stdout, "Switch back"))
        installation.settle()
    assert {name: (postfix.config / name).read_bytes() for name in originals} == originals
