"""Small installations that an import must not break: each is the smallest form of something found in the field."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.daemon import Daemon
from support.installation import Installation, block, paste
from support.mariadb import MariaDB, private_directory
from support.postfix import Postfix
from support.process import wait_until

pytestmark = [pytest.mark.servers, pytest.mark.root]

USER, PASSWORD = "mail", "pw"
SCHEMA = """
CREATE TABLE alias (address varchar(128) PRIMARY KEY, goto varchar(128) NOT NULL) DEFAULT CHARSET=utf8mb4;
CREATE TABLE hc (pat varbinary(64) PRIMARY KEY, act varchar(64) NOT NULL) DEFAULT CHARSET=utf8mb4;
INSERT INTO hc VALUES ('VIAGRA', 'REJECT spam'), (x'582D4C6174696E3A20E4F6', 'REJECT latin');
INSERT INTO alias VALUES ('root@mail.test', 'alice@elsewhere.test'), ('root', 'alice@elsewhere.test'),
  ('example.com', 'x'), ('nobody', 'x'), ('postmaster', 'alice@elsewhere.test'),
  ('boss@example.com', 'REJECT boss'), ('null@no.where', 'REJECT null'), ('no.where', 'REJECT parent'),
  ('old@example.com', 'old@elsewhere.test'), ('ok@example.com', 'OK');
"""
QUERY = "SELECT goto FROM alias WHERE address='%s'"


@contextmanager
def installed(
    mariadb: MariaDB, main_cf: str, *, smtpd: str = "", queries: dict[str, str] | None = None
) -> Iterator[Installation]:
    """Run a Postfix with these lines of main.cf and options of smtpd; {cf} is the folder of x.cf and the others."""
    database = "cases"
    mariadb.run_sql(f"DROP DATABASE IF EXISTS {database}; CREATE DATABASE {database}")
    mariadb.run_sql(SCHEMA, database=database)
    mariadb.grant(USER, PASSWORD, database)
    with private_directory() as folder:
        for name, query in {"x": QUERY, **(queries or {})}.items():
            (folder / f"{name}.cf").write_text(
                f"hosts = unix:{mariadb.socket}\nuser = {USER}\npassword = {PASSWORD}\n"
                f"dbname = {database}\nquery = {query}\n"
            )
            (folder / f"{name}.cf").chmod(0o644)
        postfix = Postfix(folder, {"recipient_delimiter": "+"})
        installation = Installation(USER, mariadb, postfix, folder)
        change(installation, main_cf)
        if smtpd:
            master = postfix.config / "master.cf"
            option = smtpd.format(cf=folder)
            master.write_text(master.read_text().replace(" smtpd\n", f" smtpd\n  -o {option}\n", 1))
            os.utime(master, (time.time() - 60,) * 2)
        with postfix:
            yield installation


def change(installation: Installation, lines: str) -> None:
    """Set parameters in main.cf; a later line wins."""
    file = installation.postfix.config / "main.cf"
    file.write_text(f"{file.read_text()}{lines.format(cf=installation.folder)}\n")
    os.utime(file, (time.time() - 60,) * 2)


@contextmanager
def moved(installation: Installation, *options: str) -> Iterator[str]:
    """Import, start the daemon and switch over; yield the report."""
    postfix = installation.postfix
    config = installation.folder / "mailmapd" / "mailmapd.toml"
    imported = installation.mailmapd(
        "import", "--postfix", str(postfix.config), "--output", str(config), *options
    )
    assert imported.returncode == 0, imported.stderr
    postfix.link_socket("mailmapd/socketmap")
    text = re.sub(r"(?m)^(http|control) = .*\n", "", config.read_text())
    with Daemon(config.parent, text):
        paste(block(imported.stdout, "Switch over"))
        installation.settle()
        yield imported.stdout


def switch_back(installation: Installation, report: str) -> None:
    """Paste the second block."""
    paste(block(report, "Switch back"))
    installation.settle()


def verdicts(installation: Installation, *recipients: str, sender: str = "") -> list[str]:
    """Return the reply to each recipient, shortened to its code and words of ours."""
    return [reply[:60] for reply in installation.replies(sender, recipients)]


def test_local_aliases_that_were_the_virtual_ones_go_on(mariadb: MariaDB) -> None:
    """alias_maps = $virtual_alias_maps keeps the old table, so that local mail is delivered after the move."""
    lines = (
        "virtual_alias_maps = proxy:mysql:{cf}/x.cf\nalias_maps = $virtual_alias_maps\n"
        "mydestination = mail.test\nheader_checks =\ndefault_transport = discard\n"
        "virtual_alias_domains =\nlocal_recipient_maps ="
    )
    with installed(mariadb, lines) as installation, moved(installation) as report:
        assert "alias_maps: it refers to virtual_alias_maps" in report
        postfix = installation.postfix
        assert postfix.send("a@b.test", ["nobody@mail.test"])[0].startswith("250")
        wait_until(lambda: "postfix/local" in postfix.text(), "a delivery by local(8)")
        wait_until(lambda: not postfix.queue() or "deferred" in postfix.text(), "its end")
        assert "not allowed for security-sensitive data" not in postfix.text()
        assert "alias database unavailable" not in postfix.text()


def test_a_proxied_table_that_an_option_keeps_stays_approved(mariadb: MariaDB) -> None:
    """A value with white space stays in master.cf, and proxymap goes on opening its table."""
    option = (
        "{{ smtpd_recipient_restrictions = check_recipient_access inline:{{ {{ held@example.com = "
        "REJECT no thanks }} }}, check_recipient_access proxy:mysql:{cf}/x.cf, reject_unauth_destination }}"
    )
    lines = "virtual_alias_maps = proxy:mysql:{cf}/x.cf\nvirtual_alias_domains = example.com"
    with installed(mariadb, lines, smtpd=option) as installation:
        before = verdicts(installation, "boss@example.com", "held@example.com", "ok@example.com")
        assert [reply[:3] for reply in before] == ["554", "554", "250"]
        with moved(installation):
            after = verdicts(installation, "boss@example.com", "held@example.com", "ok@example.com")
        assert after == before
        assert "not configured for table" not in installation.postfix.text()


def test_relay_domains_by_default_go_on_with_subdomains(mariadb: MariaDB) -> None:
    """With an old compatibility level relay_domains is mydestination, parents included, before and after."""
    lines = (
        "compatibility_level = 0\nmydestination = localhost, proxy:mysql:{cf}/x.cf\n"
        "virtual_alias_maps =\nheader_checks = static:HOLD"
    )
    with installed(mariadb, lines) as installation:
        before = verdicts(installation, "x@sub.example.com", "x@other.test")
        assert [reply[:3] for reply in before] == ["250", "554"]
        with moved(installation):
            assert verdicts(installation, "x@sub.example.com", "x@other.test") == before
            flushed = installation.postfix.run("postqueue", "-s", "sub.example.com")
            assert b"fatal" not in flushed.stderr


def test_header_checks_see_headers_as_they_are(mariadb: MariaDB) -> None:
    """Upper case and bytes that are not UTF-8 are matched after the move, as before."""
    query = "SELECT act FROM hc WHERE '%s' REGEXP BINARY pat LIMIT 1"
    lines = "header_checks = mysql:{cf}/h.cf\nmydestination = mail.test\nlocal_recipient_maps ="
    with installed(mariadb, lines, queries={"h": query}) as installation:
        before = [_data(installation.postfix, line) for line in _HEADERS]
        assert [reply[:3] for reply in before] == ["550", "550", "250"]
        with moved(installation, "--keep-cf") as report:
            assert "header_checks: header_checks" in report
            assert [_data(installation.postfix, line)[:30] for line in _HEADERS] == [
                reply[:30] for reply in before
            ]


_HEADERS = (b"Subject: buy VIAGRA", b"X-Latin: \xe4\xf6", b"Subject: buy viagra")


def _data(postfix: Postfix, header: bytes) -> str:
    """Return the reply to a message with this header, without the queue's name for it."""
    with postfix.smtp() as session:
        session.mail("a@b.test")
        session.rcpt("nobody@mail.test")
        session.command("DATA")
        return re.sub(r"queued as \S+", "queued", session.command(header + b"\r\n\r\ntext\r\n."))


def test_users_can_still_submit(mariadb: MariaDB) -> None:
    """authorized_submit_users stays where an ordinary user's sendmail can read it."""
    lines = "authorized_submit_users = mysql:{cf}/x.cf\nvirtual_alias_maps = mysql:{cf}/x.cf"
    with installed(mariadb, lines) as installation, moved(installation) as report:
        assert "postdrop reads it with the rights of the group postdrop" in report
        # sendmail takes a configuration directory from nobody but root: here it is in the place of the usual one.
        as_nobody = (
            "exec setpriv --reuid=nobody --regid=nogroup --clear-groups sendmail x@elsewhere.test"
        )
        script = f"mount --bind {installation.postfix.config}/main.cf /etc/postfix/main.cf && {as_nobody}"
        submitted = subprocess.run(
            ["unshare", "--mount", "sh", "-c", script],
            input=b"Subject: x\n\ntext\n",
            capture_output=True,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
            check=False,
        )
        assert submitted.returncode == 0, submitted.stderr


def test_a_second_import_loses_nothing(mariadb: MariaDB) -> None:
    """A map that is added after the switch joins the live ones, and the way back restores today's main.cf."""
    lines = "virtual_alias_maps =\n  proxy:mysql:{cf}/x.cf\nvirtual_alias_domains = example.com"
    with installed(mariadb, lines) as installation:
        main_cf = installation.postfix.config / "main.cf"
        with moved(installation) as first:
            assert "smtpd_sender_login_maps" not in first
        change(installation, "smtpd_sender_login_maps = mysql:{cf}/x.cf")
        with moved(installation, "--force") as second:
            assert "socketmap:" in main_cf.read_text()
            installation.verify(installation.folder / "mailmapd" / "mailmapd.toml", "--limit", "50")
            assert verdicts(installation, "old@example.com")[0].startswith("250")
            installation.postfix.purge()
            assert installation.postfix.send("", ["old@example.com"])[0].startswith("250")
            assert installation.postfix.queue()[0].addresses == ["old@elsewhere.test"]
            text = (installation.folder / "mailmapd" / "mailmapd.toml").read_text()
            assert "[map.virtual_alias_maps]" in text
            assert "[map.smtpd_sender_login_maps]" in text
            switch_back(installation, second)
        back = main_cf.read_text()
        assert "socketmap:" not in back
        assert f"virtual_alias_maps = proxy:mysql:{installation.folder}/x.cf" in back
        assert f"smtpd_sender_login_maps = mysql:{installation.folder}/x.cf" in back
        assert list(main_cf.parent.glob("*.before-mailmapd")) == []


def test_a_second_paste_saves_nothing_that_asks_mailmapd(mariadb: MariaDB) -> None:
    """Pasting the block twice keeps the saved main.cf, and the way back restores it byte for byte."""
    with installed(mariadb, "virtual_alias_maps = mysql:{cf}/x.cf") as installation:
        main_cf = installation.postfix.config / "main.cf"
        before = main_cf.read_bytes()
        with moved(installation) as report:
            paste(block(report, "Switch over"))
            switch_back(installation, report)
        assert main_cf.read_bytes() == before


def test_dovecot_may_come_later(mariadb: MariaDB, tmp_path: Path) -> None:
    """An import of Dovecot's file alone adds to the served configuration; the maps of Postfix stay."""
    with (
        installed(mariadb, "virtual_alias_maps = mysql:{cf}/x.cf") as installation,
        moved(installation),
    ):
        sql = tmp_path / "dovecot-sql.conf.ext"
        sql.write_text(
            f"driver = mysql\nconnect = host={mariadb.socket} dbname=cases user={USER} password={PASSWORD}\n"
            "password_query = SELECT address AS user, goto AS password FROM alias WHERE address = '%u'\n"
        )
        config = installation.folder / "mailmapd" / "mailmapd.toml"
        options = ("--no-postfix", "--dovecot-sql", str(sql), "--output", str(config), "--force")
        done = installation.mailmapd("import", *options)
        assert done.returncode == 0, done.stderr
        text = config.read_text()
        assert "[map.virtual_alias_maps]" in text
        assert "[dict." in text
        assert text.count("[database.") == 1
        assert (
            "[map.virtual_alias_maps]"
            in config.with_name("mailmapd.toml.before-import").read_text()
        )


def test_postscreens_lists_stay_two_questions(mariadb: MariaDB) -> None:
    """After "dunno" of one table the next one is asked, over mailmapd as before."""
    queries = {
        "a": "SELECT 'dunno' FROM DUAL WHERE '%s' = '127.0.0.1'",
        "b": "SELECT 'reject' FROM DUAL WHERE '%s' = '127.0.0.1'",
    }
    lines = (
        "postscreen_access_list = mysql:{cf}/a.cf, mysql:{cf}/b.cf\npostscreen_denylist_action = drop\n"
        "postscreen_blacklist_action = drop\npostscreen_greet_wait = 1s\npostscreen_cache_map =\n"
    )
    with installed(mariadb, lines, queries=queries) as installation:
        postfix = installation.postfix
        master = postfix.config / "master.cf"
        text = master.read_text()
        smtpd = next(line for line in text.splitlines() if line.endswith(" smtpd"))
        screen = smtpd.replace(" smtpd", " postscreen").replace(
            " - - postscreen", " - 1 postscreen"
        )
        master.write_text(text.replace(smtpd, f"{screen}\nsmtpd pass - - n - - smtpd"))
        installation.settle()
        assert _banner(postfix).startswith("521")
        with moved(installation):
            assert _banner(postfix).startswith("521")


def _banner(postfix: Postfix) -> str:
    """Return what a client is told at first."""
    with socket.create_connection(("127.0.0.1", postfix.port), timeout=30) as connection:
        return connection.recv(1000).decode()


def test_another_name_of_the_null_sender_is_one_key(mariadb: MariaDB) -> None:
    """The null sender is asked under its other name, and neither its parent domain nor its user part is found."""
    lines = (
        "smtpd_null_access_lookup_key = x@no.where\nmydestination = mail.test\nlocal_recipient_maps =\n"
        "smtpd_sender_restrictions = check_sender_access mysql:{cf}/x.cf"
    )
    with installed(mariadb, lines) as installation:
        before = verdicts(installation, "nobody@mail.test")
        assert before[0].startswith("250")
        with moved(installation):
            assert verdicts(installation, "nobody@mail.test") == before


def test_own_addresses_are_local(mariadb: MariaDB) -> None:
    """With inet_interfaces = all the literal of every address of this host is a local domain, read at the start."""
    lines = (
        "inet_interfaces = all\nvirtual_alias_maps = mysql:{cf}/x.cf\nresolve_numeric_domain = yes\n"
        "virtual_alias_domains ="
    )
    own = subprocess.run(
        ["hostname", "-I"], capture_output=True, text=True, check=True
    ).stdout.split()
    addresses = ["127.0.0.1", *(address for address in own if ":" not in address)]
    recipients = [f"postmaster@[{address}]" for address in addresses]
    with installed(mariadb, lines) as installation:
        before = installation.sessions([], recipients)
        assert "alice@elsewhere.test" in str(before)
        with moved(installation):
            assert installation.sessions([], recipients) == before


def test_smtputf8_off_folds_ascii_only(mariadb: MariaDB) -> None:
    """Without smtputf8_enable a key in Latin 1 and one with upper-case umlauts are asked as they are."""
    lines = "smtputf8_enable = no\nvirtual_alias_maps = mysql:{cf}/x.cf\nvirtual_alias_domains = example.com"
    with installed(mariadb, lines) as installation:
        mariadb.run_sql(
            "INSERT INTO alias VALUES ('ütf@example.com', 'found@elsewhere.test')", database="cases"
        )
        mariadb.run_sql(
            "ALTER TABLE alias CONVERT TO CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
            database="cases",
        )
        recipients = ("ütf@example.com", "ÜTF@example.com", "OLD@Example.com")
        before = verdicts(installation, *recipients)
        with moved(installation):
            assert verdicts(installation, *recipients) == before
