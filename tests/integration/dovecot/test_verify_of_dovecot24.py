"""`verify --dovecot-sql` with Dovecot 2.4: all users through its own SQL settings and through mailmapd.

Dovecot's programs are those of the Debian 13 system, which sees this machine's /tmp.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from mailmapd.config.loader import load_config
from mailmapd.errors import MailmapdError
from mailmapd.verify.dovecot_side import DovecotResult, compare_dovecot
from support.daemon import Daemon
from support.debian13 import Debian13
from support.mariadb import MariaDB, private_directory

pytestmark = [
    pytest.mark.servers,
    pytest.mark.root,
    pytest.mark.timeout(1800),
]  # the first test may have to download a system

DATABASE = "verify_24"
SCHEMA = """
CREATE TABLE mailbox (username varchar(200) COLLATE utf8mb4_bin, password varchar(200), home varchar(200));
INSERT INTO mailbox VALUES ('a@example.com', '{PLAIN}secret', '/srv/a'), ('b_b@example.com', '{PLAIN}secret', '/srv/b'),
  ('none@example.com', NULL, '/srv/c');
"""
SQL = """\
sql_driver = mysql
mysql SOCKET {
  user = verify_24
  password = geheim
  dbname = verify_24
}
passdb sql {
  query = SELECT password FROM mailbox WHERE username = '%{user}'
}
userdb sql {
  query = SELECT home, 5000 AS uid, 5000 AS gid FROM mailbox WHERE username = '%{user}'
  iterate_query = SELECT username AS user FROM mailbox
}
"""
WRAPPER = """\
#!/bin/sh
exec unshare --mount sh -c '
  mount -t proc proc "$0/proc"
  mount --rbind /dev "$0/dev"
  mount --rbind /tmp "$0/tmp"
  exec chroot "$0" "$@"
' {root} {program} "$@"
"""


@dataclass(frozen=True)
class Site:
    """A mailmapd whose dict is made of the file, and Dovecot's programs in a folder."""

    daemon: Daemon
    programs: Path
    file: Path

    def compare(self, *changes: tuple[str, str]) -> DovecotResult:
        """Compare with the file after some changes."""
        text = self.file.read_text()
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        other = self.file.with_name("other.conf")
        other.write_text(text)
        config = load_config(self.daemon.config)
        return compare_dovecot(config, other, system_path=str(self.programs))


@pytest.fixture(scope="module")
def site(mariadb: MariaDB) -> Iterator[Site]:
    """The servers."""
    mariadb.run_sql(f"DROP DATABASE IF EXISTS {DATABASE}; CREATE DATABASE {DATABASE}")
    mariadb.run_sql(SCHEMA, database=DATABASE)
    mariadb.grant(DATABASE, "geheim", DATABASE)
    with ExitStack() as stack:
        system = stack.enter_context(Debian13())
        folder = stack.enter_context(private_directory())
        file = folder / "auth-sql.conf.ext"
        file.write_text(SQL.replace("SOCKET", str(mariadb.socket)))
        accounts = [line.split(":") for line in system.path("etc/passwd").read_text().splitlines()]
        peer = next(fields[2] for fields in accounts if fields[0] == "dovecot")
        listen = (
            f'lookup_http = {{address = "unix:{folder}/lookup", mode = "0666", peers = ["{peer}"]}}'
        )
        daemon = stack.enter_context(
            Daemon(folder, f'[listen]\n{listen}\n[dict.auth]\ndovecot_sql = "{file.name}"\n')
        )
        programs = folder / "programs"
        programs.mkdir()
        for name in ("dovecot", "doveconf"):
            program = programs / name
            found = next(
                path for path in ("usr/sbin", "usr/bin") if (system.folder / path / name).exists()
            )
            program.write_text(WRAPPER.format(root=system.folder, program=f"/{found}/{name}"))
            program.chmod(0o755)
        yield Site(daemon, programs, file)


def test_no_difference(site: Site) -> None:
    """Every user is listed, found and described alike."""
    result = site.compare()
    assert result.differences == []
    assert (result.users, result.found, result.failed) == (3, 5, 1)


def test_differences(site: Site) -> None:
    """A file that gives another home and another list is told from what mailmapd answers."""
    result = site.compare(
        ("SELECT home", "SELECT CONCAT(home, '/x') AS home"),
        ("AS user FROM mailbox", "AS user FROM mailbox WHERE username <> 'none@example.com'"),
    )
    assert {user for (kind, user), _, _ in result.differences if kind == "user"} == {
        b"a@example.com",
        b"b_b@example.com",
        b"none@example.com",
    }


@pytest.mark.parametrize("moved", ["passdb", "userdb"])
def test_what_is_not_moved_is_not_compared(site: Site, moved: str) -> None:
    """Logins alone are compared beside another userdb, users alone beside another passdb."""
    head, passdb, userdb = re.split(r"(?m)^(?=passdb|userdb)", site.file.read_text())
    part = {"passdb": passdb, "userdb": re.sub(r"(?m)^ +iterate_query.*\n", "", userdb)}[moved]
    (site.daemon.directory / "part.conf").write_text(head + part)
    config = site.daemon.directory / "part.toml"
    config.write_text(site.daemon.config.read_text().replace(site.file.name, "part.conf"))
    result = compare_dovecot(load_config(config), site.file, system_path=str(site.programs))
    assert result.differences == []
    assert (result.users, result.found) == (3, 2 if moved == "passdb" else 3)


def test_a_file_of_23(site: Site) -> None:
    """A file of 2.3, which 2.4 cannot read, is refused with both versions."""
    with pytest.raises(MailmapdError, match=r"is of Dovecot 2\.3, and the one here is 2\.4\."):
        site.compare((site.file.read_text(), "driver = mysql\nuser_query = SELECT 1\n"))
