"""User fields that were written for Dovecot 2.3, over 2.4: the same limit and mail folder, or a temporary failure.

Dovecot 2.3 of this machine asks by its own SQL driver, 2.4 in the Debian 13 system by way of
mailmapd; both have the same rows.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from mailmapd.config.loader import load_config
from mailmapd.snippets.dovecot import dovecot_24
from support.daemon import Daemon
from support.debian13 import Debian13
from support.dovecot import Dovecot
from support.mariadb import MariaDB, private_directory
from support.process import listens
from support.shipped import shipped

pytestmark = [
    pytest.mark.servers,
    pytest.mark.root,
    pytest.mark.timeout(1800),
]  # the first test may have to download a system

DATABASE = "fields_of_23"
HOMES = "/tmp/mailmapd-fields-of-23"  # the same path here and there
MAIL = "maildir:~/Maildir"
ROWS: dict[str, tuple[str | None, str | None, str]] = {
    "none": (None, None, MAIL),
    "kilobytes": ("*:storage=2048", None, MAIL),
    "megabytes": ("*:storage=100MB", None, MAIL),
    "lower": ("*:storage=3gb:messages=7", None, MAIL),
    "bytes": ("*:bytes=10485760", None, MAIL),
    "zero": ("*:bytes=0", None, MAIL),
    "nothing": ("*:bytes=", None, MAIL),
    "second": ("*:bytes=1048576:messages=5", "*:bytes=2097152", MAIL),
    "messages": ("*:messages=2k", None, MAIL),
    "unforced": ("?:storage=1M", None, MAIL),
    "plus": ("*:bytes=+10", None, MAIL),
    "negative": ("*:bytes=-1", None, MAIL),
    "empty": ("", None, MAIL),
    "unit": ("*:storage=1 GB", None, MAIL),
    "word": ("*:storage=unlimited", None, MAIL),
    "percent": ("*:storage=10%", None, MAIL),
    "trash": ("*:storage=1M", "Trash:storage=+10%", MAIL),
    "utf8": (None, None, "maildir:~/Maildir:UTF-8"),
    "layout": (None, None, "maildir:~/Maildir:LAYOUT=fs:UTF-8"),
    "variable": (None, None, "maildir:~/%n"),
    "odd": (None, None, "maildir:~/Maildir:NOSUCH=1"),
}
FAULTS = {"trash", "variable", "percent"}
"""Rows of which 2.3 makes something that 2.4 has no field for."""

SETTINGS_23 = """\
mail_plugins = quota
plugin {
  quota = count:User quota
  quota_vsizes = yes
}
passdb {
  driver = static
  args = nopassword=y
}
userdb {
  driver = sql
  args = DIRECTORY/sql.conf
}
"""
SETTINGS_24 = """\
dovecot_config_version = 2.4.1
dovecot_storage_version = 2.4.1
base_dir = /run/dovecot-fields
log_path = /var/log/dovecot-fields.log
protocols =
ssl = no
first_valid_uid = 0
mail_plugins = quota
quota "User quota" {
}
passdb static {
  fields {
    nopassword = yes
  }
}
"""
EXIT_TEMPORARY = 75


@dataclass(frozen=True)
class Both:
    """`doveadm` of the one and of the other."""

    old: Callable[..., subprocess.CompletedProcess[str]]
    new: Callable[..., subprocess.CompletedProcess[str]]
    log: Path


@pytest.fixture(scope="module")
def both(mariadb: MariaDB) -> Iterator[Both]:
    """Both Dovecots over the same rows."""
    with ExitStack() as stack:
        directory = stack.enter_context(private_directory())
        connect = fill(mariadb)
        for homes in (Path(HOMES), Debian13().path(HOMES)):
            stack.callback(shutil.rmtree, homes, ignore_errors=True)
        (directory / "sql.conf").write_text(
            f"driver = mysql\nconnect = {connect}\n"
            f"user_query = SELECT 5000 AS uid, 5000 AS gid, CONCAT('{HOMES}/', name) AS home, mail, "
            "quota_rule, quota_rule2 FROM person WHERE name = '%u'\n"
        )
        settings = SETTINGS_23.replace("DIRECTORY", str(directory))
        dovecot = stack.enter_context(Dovecot(directory, settings))
        system = stack.enter_context(Debian13())
        socket = system.path("run/mailmapd-fields")
        who = f'mode = "0666", peers = ["{system.user("dovecot")}"]'
        config = f'[listen]\nlookup_http = {{address = "unix:{socket}", {who}}}\n'
        (directory / "mailmapd").mkdir()
        config += f'[dict.auth]\ndovecot_sql = "{directory}/sql.conf"\n'
        daemon = stack.enter_context(Daemon(directory / "mailmapd", config))
        snippet = dovecot_24(load_config(daemon.config), "/etc/dovecot-fields")
        system.write("etc/dovecot-fields/mailmapd.lua", shipped("dovecot/2.4/mailmapd.lua"))
        system.write(
            "etc/dovecot-fields/dovecot.conf",
            SETTINGS_24 + snippet.replace(str(socket), "/run/mailmapd-fields"),
        )
        main = ("-c", "/etc/dovecot-fields/dovecot.conf")
        process = system.start(["dovecot", "-F", *main], directory / "dovecot24.out")
        stack.callback(process.stop)
        process.wait_ready(
            partial(listens, system.path("run/dovecot-fields/auth-userdb")), "Dovecot 2.4"
        )
        yield Both(
            dovecot.doveadm,
            lambda *words: system.run("doveadm", *main, *words, check=False),
            system.path("var/log/dovecot-fields.log"),
        )


def fill(mariadb: MariaDB) -> str:
    """Make the table and return the words of `connect`."""
    mariadb.run_sql(
        f"DROP DATABASE IF EXISTS {DATABASE}; CREATE DATABASE {DATABASE} CHARACTER SET utf8mb4;"
        f"CREATE TABLE {DATABASE}.person (name varchar(50) PRIMARY KEY, quota_rule varchar(200),"
        " quota_rule2 varchar(200), mail varchar(200))"
    )
    connection = mariadb.connect(DATABASE)
    with connection, connection.cursor() as cursor:
        for name, row in ROWS.items():
            cursor.execute("INSERT INTO person VALUES (%s, %s, %s, %s)", (name, *row))
    mariadb.grant(DATABASE, "geheim", DATABASE)
    return f"host={mariadb.socket} dbname={DATABASE} user={DATABASE} password=geheim"


def limits(done: subprocess.CompletedProcess[str]) -> list[str] | None:
    """Return the limits of `doveadm quota get` (kilobytes, messages), or None for a temporary failure."""
    if done.returncode == EXIT_TEMPORARY:
        return None
    assert done.returncode == 0, done.stderr
    return [line.split()[-2] for line in done.stdout.splitlines() if line.startswith("User quota")]


@pytest.mark.parametrize("name", ROWS)
def test_limit(both: Both, name: str) -> None:
    """A mailbox has the limit that it had under 2.3, or its user has a temporary failure."""
    old = limits(both.old("quota", "get", "-u", name))
    new = limits(both.new("quota", "get", "-u", name))
    assert new == (None if name in FAULTS or old is None else old)


@pytest.mark.parametrize("name", ["none", "utf8", "layout"])
def test_folder(both: Both, name: str) -> None:
    """A folder whose name is not ASCII lies where it lay under 2.3."""
    words = ("mailbox", "path", "-u", name, "Entwürfe")
    old, new = both.old(*words).stdout, both.new(*words).stdout
    assert old.startswith(f"{HOMES}/{name}/Maildir/")
    assert new == old


def test_reason_is_logged(both: Both) -> None:
    """Dovecot's log says which field of a row 2.4 would have ignored."""
    both.new("user", "trash")
    assert (
        "the user field quota_rule2 (Trash:storage=+10%) is a limit of one" in both.log.read_text()
    )
