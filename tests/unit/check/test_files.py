"""Files and folders: secrets that others can read, sockets that cannot be opened, folders that are open to all."""

from __future__ import annotations

import os
import pwd
import re
import socket
from pathlib import Path

import pytest

from mailmapd.check.files import (
    folder_findings,
    open_folder,
    secret_findings,
    socket_findings,
    trusted_owners,
)
from mailmapd.check.files_read import files_read
from mailmapd.check.finding import Finding, Level
from mailmapd.config.loader import parse_config
from mailmapd.config.schema import Config, FileWithSecret, Secret, SecretFile
from mailmapd.plan.assembly import plan
from support.schema_keys import keys_of_kind

DATABASE = '[database.d]\ndriver = "mysql"\nhosts = ["127.0.0.1"]\nuser = "u"\ndbname = "m"\n'
MAP = """[table.t]
database = "d"
query = "SELECT 1 FROM t WHERE a = '%s'"
[map.m]
tables = ["t"]
search = "exact"
"""
NAMELESS = "no-such-account-here"


def config(folder: Path, text: str) -> Config:
    """Return the configuration that stands in a file of the folder."""
    file = folder / "mailmapd.toml"
    file.write_text(text)
    return parse_config(text, str(file))


def sockets(folder: Path, entry: str, account: str = NAMELESS) -> list[Finding]:
    """Return what is found about one entry of listen.socketmap."""
    text = f"[listen]\nsocketmap = [{entry}]\n{DATABASE}{MAP}"
    return list(socket_findings(config(folder, text), account))


def secrets(made: Config) -> list[Finding]:
    """Return what is found about the files with secrets of a configuration."""
    return list(secret_findings(files_read(made, plan(made).databases, {}), trusted_owners(made)))


CLUSTER = '[cluster]\nurl = "redis://127.0.0.1:6379/0"\n'
SECRETS = {
    "database.d.password": (DATABASE + 'password = "x"\n', "mailmapd.toml"),
    "database.d.password_file": (DATABASE + 'password_file = "secret"\n', "secret"),
    "database.d.option_file": (DATABASE + 'option_file = "my.cnf"\n', "my.cnf"),
    "database.d.tls.key": (DATABASE + 'tls = {ca = "ca.pem", key = "key.pem"}\n', "key.pem"),
    "database.d.changes.password_file": (
        DATABASE + '[database.d.changes]\nuser = "c"\npassword_file = "log"\n',
        "log",
    ),
    "cluster.password": (CLUSTER + 'password = "x"\n', "mailmapd.toml"),
    "cluster.password_file": (CLUSTER + 'password_file = "shared"\n', "shared"),
    "cluster.sentinel_password_file": (
        '[cluster]\nsentinels = ["h:26379"]\nservice = "mail"\nsentinel_password_file = "watch"\n',
        "watch",
    ),
    "cluster.key_file": (CLUSTER + 'key_file = "signature"\n', "signature"),
    "cluster.tls.key": (CLUSTER + 'tls = {ca = "ca.pem", key = "key.pem"}\n', "key.pem"),
    "listen.webhook_token_file": (
        '[listen]\nwebhook = "127.0.0.1:9781"\nwebhook_token_file = "token"\n',
        "token",
    ),
    "table.t.postfix_cf": ('[table.t]\npostfix_cf = "mysql.cf"\n', "mysql.cf"),
    "dict.auth.dovecot_sql": ('[dict.auth]\ndovecot_sql = "sql.conf.ext"\n', "sql.conf.ext"),
}
"""For every key of a secret or its file: a configuration with it, and the file that must be closed."""

CF = "dbname = m\nuser = u\nquery = SELECT a FROM t WHERE k = '%s'\n"
DOVECOT = "driver = mysql\nconnect = host=127.0.0.1\npassword_query = SELECT a AS password FROM t\n"


def files(folder: Path) -> None:
    """Make every file that a configuration of `SECRETS` names, readable by all."""
    texts = {name: "x" * 40 for _, name in SECRETS.values()}
    texts |= {"mysql.cf": CF, "sql.conf.ext": DOVECOT, "my.cnf": "", "ca.pem": ""}
    for name in texts.keys() - {"mailmapd.toml"}:
        (folder / name).write_text(texts[name])
        (folder / name).chmod(0o644)


@pytest.mark.parametrize("where", SECRETS)
def test_readable_secrets(tmp_path: Path, where: str) -> None:
    """Each file that holds a secret is named while everybody can read or write it, with the command that ends this."""
    text, name = SECRETS[where]
    made = config(tmp_path, text)
    files(tmp_path)
    file = tmp_path / name
    for mode, may in ((0o644, "read"), (0o642, "write")):
        file.chmod(mode)
        [finding] = secrets(made)
        assert (finding.level, finding.code) == (Level.WARNING, "readable_secret")
        assert (finding.where, finding.remedy) == (str(file), f"chmod o= {file}")
        assert finding.problem.startswith(f"everybody can {may} it, and it ")
    file.chmod(0o640)
    assert secrets(made) == []


def test_no_secret_is_forgotten() -> None:
    """Every key of the schema that is a secret or names a file with one is in the test above."""
    assert {re.sub(r"\.(d|t|auth)\b", "", where) for where in SECRETS} == {
        where
        for kind in (Secret, SecretFile, FileWithSecret)
        for where in keys_of_kind(Config, kind)
    }


@pytest.mark.parametrize(
    ("file", "text", "config_text"),
    [
        ("mysql.cf", f"{CF}tls_key_file = {{}}\n", '[table.t]\npostfix_cf = "mysql.cf"\n'),
        ("my.cnf", "[client]\nssl-ca = /x\nssl-key = {}\n", DATABASE + 'option_file = "my.cnf"\n'),
        ("mysql.cf", f"{CF}option_file = {{}}\n", '[table.t]\npostfix_cf = "mysql.cf"\n'),
        (
            "sql.conf.ext",
            DOVECOT.replace("host=", "ssl_ca=/x ssl_key={} host="),
            '[dict.auth]\ndovecot_sql = "sql.conf.ext"\n',
        ),
    ],
)
def test_secrets_that_other_files_name(
    tmp_path: Path, file: str, text: str, config_text: str
) -> None:
    """The private key or option file that a .cf file, an option file or Dovecot's SQL file names is looked at, too."""
    made = config(tmp_path, config_text)
    named = tmp_path / "named"
    named.touch(0o644)
    (tmp_path / file).write_text(text.format(named))
    (tmp_path / file).chmod(0o640)
    assert [finding.where for finding in secrets(made)] == [str(named)]
    named.chmod(0o640)
    assert secrets(made) == []


def test_missing_secret_is_another_findings_matter(tmp_path: Path) -> None:
    """A file that is not there, such as a credential of systemd's, is readable by nobody."""
    made = config(tmp_path, DATABASE + 'password_file = "secret"\n')
    assert list(secret_findings(files_read(made, {}, {}), trusted_owners(made))) == []


@pytest.mark.root
@pytest.mark.parametrize("where", ["cluster.key_file", "table.t.postfix_cf", "cluster.password"])
def test_secrets_of_somebody_else(tmp_path: Path, where: str) -> None:
    """A secret's file that belongs to another account than root's or the daemons' is named, with who that is; but
    whoever owns the configuration may own its secrets as well.
    """
    text, name = SECRETS[where]
    made = config(tmp_path, text)
    files(tmp_path)
    file = tmp_path / name
    file.chmod(0o640)
    os.chown(file, pwd.getpwnam("games").pw_uid, -1)
    found = [(finding.code, finding.where, finding.remedy) for finding in secrets(made)]
    own = file == tmp_path / "mailmapd.toml"
    assert found == ([] if own else [("foreign_secret", str(file), f"chown root {file}")])
    os.chown(tmp_path / "mailmapd.toml", pwd.getpwnam("games").pw_uid, -1)
    assert secrets(made) == []


@pytest.mark.parametrize(
    ("text", "codes"),
    [
        ("", ["no_listener"]),
        ('[listen]\nhttp = "127.0.0.1:9780"\n', []),
        ('[listen]\nsocketmap = ["127.0.0.1:2552"]\n', ["no_map"]),
        ('[listen]\ndict = ["unix:/run/d"]\n', ["no_dict"]),
    ],
)
def test_something_to_serve(text: str, codes: list[str]) -> None:
    """A configuration without a socket, or with one that has nothing to answer, is a finding."""
    found = socket_findings(parse_config(text, "mailmapd.toml"))
    assert [finding.code for finding in found if finding.code != "socket_folder"] == codes


def test_folder_that_is_not_there(tmp_path: Path) -> None:
    """A socket without a folder is a finding, with what makes folders."""
    [finding] = sockets(tmp_path, f'"unix:{tmp_path}/none/socketmap"')
    assert finding.code == "socket_folder"
    assert finding.problem == f"{tmp_path}/none does not exist"
    assert "systemd-tmpfiles --create" in finding.remedy


def test_plain_file_in_a_sockets_place(tmp_path: Path) -> None:
    """A plain file where the socket should be is a fault: the daemon never removes one. A socket is none."""
    path = tmp_path / "socketmap"
    path.touch()
    [finding] = sockets(tmp_path, f'"unix:{path}"')
    assert (finding.level, finding.code) == (Level.FAULT, "no_socket")
    assert finding.problem == f"{path} is no socket"
    path.unlink()
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(path))
        assert sockets(tmp_path, f'"unix:{path}"') == []


@pytest.mark.root
@pytest.mark.skipif(os.getuid() != 0, reason="only root gives folders away")
def test_folder_that_the_account_may_not_write_to(tmp_path: Path) -> None:
    """Where the daemon's account may make no socket, systemd's unit is the remedy; owner, group and
    all others count as the kernel counts them.
    """
    entry = f'"unix:{tmp_path}/socketmap"'
    account = pwd.getpwnam("nobody")
    remedy = "systemctl enable mailmapd.socket, then systemctl restart mailmapd.service"
    tmp_path.chmod(0o755)
    [finding] = sockets(tmp_path, entry, "nobody")
    assert (finding.level, finding.code) == (Level.WARNING, "socket_folder_closed")
    assert finding.remedy == f"let systemd open it: {remedy}"
    for owner, group, mode, closed in (
        (0, 0, 0o757, False),
        (0, account.pw_gid, 0o775, False),
        (0, account.pw_gid, 0o757, True),
        (account.pw_uid, 0, 0o755, False),
        (account.pw_uid, 0, 0o577, True),
        (account.pw_uid, 0, 0o655, True),
    ):
        os.chown(tmp_path, owner, group)
        tmp_path.chmod(mode)
        assert bool(sockets(tmp_path, entry, "nobody")) == closed, (owner, group, oct(mode))


def test_accounts_that_are_not_there(tmp_path: Path) -> None:
    """A peer that this host does not have is a warning; of owners and groups `account_findings` speaks, once."""
    entry = f'{{address = "unix:{tmp_path}/socketmap", %s}}'
    [finding] = sockets(tmp_path, entry % f'peers = ["{NAMELESS}"]')
    assert (finding.level, finding.code) == (Level.WARNING, "unknown_account")
    assert finding.problem.startswith(f'peers: there is no user "{NAMELESS}"')
    assert finding.remedy
    for key in ("owner", "group"):
        assert sockets(tmp_path, entry % f'{key} = "{NAMELESS}"') == []


def test_open_folders(tmp_path: Path) -> None:
    """A folder that everybody may write to is a finding, one like /tmp is not."""
    tmp_path.chmod(0o777)
    [finding] = open_folder(tmp_path, "virtual_mailbox_base")
    assert (finding.code, finding.where) == ("open_folder", "virtual_mailbox_base")
    assert f"{tmp_path} has mode 777" in finding.problem
    tmp_path.chmod(0o1777)
    assert list(open_folder(tmp_path, "x")) == []
    tmp_path.chmod(0o775)
    assert list(open_folder(tmp_path, "x")) == []


def test_folders_that_queries_name(tmp_path: Path) -> None:
    """Each folder in the texts of queries is looked at, once."""
    folder = tmp_path / "mail"
    folder.mkdir()
    folder.chmod(0o777)
    texts = [
        f"SELECT CONCAT('{folder}/', mail_dir) AS home FROM users",
        f'SELECT "{folder}" FROM others',
        "SELECT '/nowhere/at/all', 'x/y' FROM t",
    ]
    [finding] = folder_findings(texts, "queries")
    assert str(folder) in finding.problem
