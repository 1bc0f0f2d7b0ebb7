from __future__ import annotations

from pathlib import Path

import pytest

from mailmapd.databases.host_list import HostAddress, parse_host
from mailmapd.databases.mysql.account import account_for
from mailmapd.databases.settings import MysqlSettings, TlsSettings
from mailmapd.errors import DatabaseUnavailable
from mailmapd.formats.option_file import read_option_file

MY_CNF = r"""
# a comment
[mysqld]
user = mysql
[client]
user = mail
password = "se#cret \"quoted\""   # with a comment
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
