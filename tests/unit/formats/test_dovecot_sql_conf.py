from __future__ import annotations

from pathlib import Path

import pytest

from mailmapd.errors import ConfigError
from mailmapd.formats.dovecot_sql_conf import DovecotSqlConf, read_dovecot_sql_conf


def read(tmp_path: Path, text: str) -> DovecotSqlConf:
    path = tmp_path / "dovecot-sql.conf.ext"
    path.write_text(text)
    return read_dovecot_sql_conf(path)


def test_whole_file(tmp_path: Path) -> None:
    """Driver, connection, scheme and queries are read; a whole value may be quoted."""
    conf = read(
        tmp_path,
        "driver = mysql\n"
        'connect = "host=/run/mysqld/mysqld.sock host=db1 host=2001:db8::1 host=localhost '
        'port=3307 dbname=mail user=me  password=s#cr=t"\n'
        "default_pass_scheme = SHA512-CRYPT\npassword_query = SELECT 1\nuser_query = SELECT "
        "2;\niterate_query = SELECT 3\n",
    )
    assert conf.connect.hosts == (
        "unix:/run/mysqld/mysqld.sock",
        "db1:3307",
        "[2001:db8::1]:3307",
        "localhost",
    )
    assert (conf.connect.dbname, conf.connect.user, conf.connect.password) == (
        "mail",
        "me",
        "s#cr=t",
    )
    assert (conf.driver, conf.default_pass_scheme) == ("mysql", "SHA512-CRYPT")
    assert (conf.password_query, conf.user_query, conf.iterate_query) == (
        "SELECT 1",
        "SELECT 2;",
        "SELECT 3",
    )


def test_defaults(tmp_path: Path) -> None:
    """Without default_pass_scheme it is MD5, as in Dovecot 2.3; a query that is not set is None."""
    conf = read(tmp_path, "driver = mysql\nconnect = host=db\npassword_query = SELECT 1\n")
    assert (conf.default_pass_scheme, conf.user_query, conf.iterate_query) == ("MD5", None, None)
    assert conf.connect.hosts == ("db",)


def test_tls_and_timeouts(tmp_path: Path) -> None:
    """The TLS files and timeouts of connect are kept."""
    connect = read(
        tmp_path,
        "driver = mysql\npassword_query = SELECT 1\n"
        "connect = host=db ssl_ca=/ca.pem ssl_cert=/c.pem ssl_key=/k.pem ssl_cipher=HIGH ssl_verify_server_cert=no"
        " connect_timeout=2 read_timeout=3\n",
    ).connect
    assert (connect.ssl_ca, connect.ssl_cert, connect.ssl_key, connect.ssl_verify_server_cert) == (
        "/ca.pem",
        "/c.pem",
        "/k.pem",
        False,
    )
    assert (connect.connect_timeout, connect.read_timeout) == (2, 3)


def test_sqlite(tmp_path: Path) -> None:
    """With the sqlite driver, connect is the path of the file."""
    assert (
        read(
            tmp_path,
            "driver = sqlite\nconnect = /var/lib/users.sqlite\npassword_query = SELECT 1\n",
        ).connect.path
        == "/var/lib/users.sqlite"
    )


def test_password_is_not_in_repr(tmp_path: Path) -> None:
    """The database password does not show in the value's repr."""
    assert "hunter2" not in repr(
        read(
            tmp_path,
            "driver = mysql\nconnect = host=db password=hunter2\npassword_query = SELECT 1\n",
        )
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("connect = host=db\npassword_query = x\n", "driver is not set"),
        ("driver = pgsql\nconnect = host=db\npassword_query = x\n", "line 1: driver is pgsql"),
        ("driver = mysql\npassword_query = x\n", "connect is not set"),
        (
            "driver = mysql\nconnect = dbname=x\npassword_query = x\n",
            "line 2: connect names no host",
        ),
        (
            "driver = mysql\nconnect = host=db password=my secret\npassword_query = x\n",
            "connect word 3 has no =",
        ),
        (
            "driver = mysql\nconnect = host=db hunter=2\npassword_query = x\n",
            "connect word 2 has a name",
        ),
        (
            "driver = mysql\nconnect = host=db port=99999\npassword_query = x\n",
            "connect says port= something",
        ),
        (
            "driver = mysql\nconnect = host=db ssl_verify_server_cert=1\npassword_query = x\n",
            "neither yes nor no",
        ),
        (
            "driver = mysql\nconnect = host=db\nuser_querry = x\n",
            "line 3: user_querry is not a setting",
        ),
        ("driver = mysql\nconnect = host=db\n", "sets no query"),
    ],
)
def test_fault(tmp_path: Path, text: str, message: str) -> None:
    """A mistake is named with its file and line, without what connect says."""
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, text)
    assert message in str(caught.value)
    assert str(tmp_path / "dovecot-sql.conf.ext") in str(caught.value)
    assert "secret" not in str(caught.value)
