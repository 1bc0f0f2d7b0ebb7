from __future__ import annotations

from pathlib import Path

import pytest

from mailmapd.databases.host_list import HostAddress, parse_host
from mailmapd.databases.mysql.account import account_for, check_option_file
from mailmapd.databases.settings import MysqlSettings, TlsSettings
from mailmapd.errors import DatabaseUnavailable
from mailmapd.formats.option_file import read_option_file

MY_CNF = r"""
# a comment
[mysqld]
user = mysql
[client]
user = mail
password = "se#cret \"quoted\""
port=3307
!includedir /etc/mysql/conf.d/
[postfix]
ssl-ca = /etc/ssl/db.pem
ssl_verify_server_cert
password = tab\there
"""


@pytest.fixture
def my_cnf(tmp_path: Path) -> str:
    path = tmp_path / "my.cnf"
    path.write_text(MY_CNF)
    return str(path)


def test_client_group(my_cnf: str) -> None:
    """The client group is read with quotes, comments and escapes as the client library reads them."""
    assert read_option_file(my_cnf, "client") == {
        "user": "mail",
        "password": 'se#cret "quoted"',
        "port": "3307",
    }


def test_own_group(my_cnf: str) -> None:
    """The named group is read besides, wins, and `-` equals `_`."""
    assert read_option_file(my_cnf, "postfix") == {
        "user": "mail",
        "password": "tab\there",
        "port": "3307",
        "ssl_ca": "/etc/ssl/db.pem",
        "ssl_verify_server_cert": "",
    }


def test_account(my_cnf: str) -> None:
    """Settings win over the option file, which fills in what they leave open."""
    settings = MysqlSettings(
        user="other", dbname="mail", option_file=my_cnf, option_group="postfix"
    )
    _, account = account_for(parse_host("db1"), settings)
    assert (account.user, account.password, account.dbname) == ("other", "tab\there", "mail")
    assert account.tls == TlsSettings(ca="/etc/ssl/db.pem", verify=True)


def test_localhost(tmp_path: Path) -> None:
    """`localhost` goes to the option file's socket or host; a named host stays."""
    path = tmp_path / "my.cnf"
    settings = MysqlSettings(option_file=str(path))
    path.write_text("[client]\nsocket=/tmp/my.sock\n")
    assert account_for(parse_host("localhost"), settings)[0] == HostAddress(
        "localhost", path="/tmp/my.sock"
    )
    path.write_text("[client]\nhost=db9\nport=3308\n")
    assert account_for(parse_host("localhost"), settings)[0] == HostAddress(
        "localhost", name="db9", port=3308
    )
    assert account_for(parse_host("db1"), settings)[0].name == "db1"
    path.write_text("")
    assert account_for(parse_host("localhost"), settings)[0].path == "/run/mysqld/mysqld.sock"


def test_missing() -> None:
    """A missing option file is an unavailable database that names the file."""
    with pytest.raises(DatabaseUnavailable, match=r"/nowhere/my\.cnf: No such file"):
        account_for(parse_host("db1"), MysqlSettings(option_file="/nowhere/my.cnf"))


def test_secret() -> None:
    """Passwords do not show in the repr of settings and accounts."""
    settings = MysqlSettings(password="s3cret")
    assert "s3cret" not in repr(settings)
    assert "s3cret" not in repr(account_for(parse_host("db1"), settings))


@pytest.mark.parametrize(
    "line",
    [
        "ssl_verify_server_cert=0",
        "ssl-verify-server-cert = FALSE",
        "ssl_verify_server_cert=no",
        "ssl=0",
    ],
)
def test_encryption_that_is_switched_off(tmp_path: Path, line: str) -> None:
    """An option that says no to encryption, or to checking certificates, asks for no encryption."""
    path = tmp_path / "my.cnf"
    path.write_text(f"[client]\n{line}\n")
    assert account_for(parse_host("db1"), MysqlSettings(option_file=str(path)))[1].tls is None
    path.write_text(f"[client]\nssl_ca=/ca\n{line}\n")
    assert account_for(parse_host("db1"), MysqlSettings(option_file=str(path)))[
        1
    ].tls == TlsSettings(ca="/ca", verify=False)


def options(tmp_path: Path, text: str, group: str = "postfix") -> dict[str, str]:
    """Return the options of a file with this text."""
    path = tmp_path / "my.cnf"
    path.write_text(text)
    return read_option_file(str(path), group)


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("password = a #b", "a #b"),
        ("password = 'a # b'", "a # b"),
        (r"password = \d\s\t", "\\d \t"),
        ("passwd = a=b", "a=b"),
        ("password", ""),
    ],
)
def test_a_value_is_what_the_library_takes(tmp_path: Path, line: str, value: str) -> None:
    """A number sign without quotes, an unknown escape and an equals sign belong to the value."""
    assert options(tmp_path, f"[client]\n{line}\n") == {"password": value}


def test_the_last_line_wins_whatever_its_group(tmp_path: Path) -> None:
    """The order of the file decides, and not that of the groups."""
    text = "[postfix]\nuser = own\n[client]\nuser = general\n[other]\nuser = not\n"
    assert options(tmp_path, text) == {"user": "general"}


def test_included_files_are_read_where_they_stand(tmp_path: Path) -> None:
    """A file, and my.cnf of a folder, take the place of their line; what is not there is passed over."""
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d" / "my.cnf").write_text("[client]\nuser = folder\nport = 1\n")
    (tmp_path / "conf.d" / "other.cnf").write_text("[client]\nuser = not\n")
    (tmp_path / "mail.cnf").write_text("[postfix]\nport = 2\n!include my.cnf\n")
    text = (
        f"[client]\nuser = first\n!includedir {tmp_path}/conf.d\n!include {tmp_path}/mail.cnf\n"
        f"!include {tmp_path}/missing.cnf\n"
    )
    assert options(tmp_path, text) == {"user": "folder", "port": "2"}


def test_a_port_is_for_hosts_that_say_none(tmp_path: Path) -> None:
    """The option file's port goes to every host without one of its own."""
    path = tmp_path / "my.cnf"
    path.write_text("[client]\nport = 3399\n")
    settings = MysqlSettings(option_file=str(path))
    ports = [
        account_for(parse_host(host), settings)[0].port
        for host in ("db1", "inet:db1", "db1:3306", "[2001:db8::1]", "192.0.2.1:3307")
    ]
    assert ports == [3399, 3399, 3306, 3399, 3307]


def test_an_init_command_is_refused_with_the_reason(tmp_path: Path) -> None:
    """A statement at every login, which would not be run, is a fault of the configuration."""
    path = tmp_path / "my.cnf"
    path.write_text("[client]\ninit-command = SET NAMES latin1\n")
    with pytest.raises(ValueError, match="init-command runs a statement at every login"):
        check_option_file(MysqlSettings(option_file=str(path)))
