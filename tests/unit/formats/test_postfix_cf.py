from __future__ import annotations

from pathlib import Path

import pytest

from mailmapd.errors import ConfigError
from mailmapd.formats.postfix_cf import PostfixCf, read_postfix_cf

MYSQL = "dbname = mail\nquery = SELECT 1\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "table.cf"


def read(file: Path, text: str | bytes) -> PostfixCf:
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_postfix_cf(file)


def faults(file: Path, text: str | bytes) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read(file, text)
    return [str(fault).removeprefix(f"{file}: ") for fault in caught.value.faults]


def test_defaults_are_those_of_the_manual(file: Path) -> None:
    """What a file does not say has mysql_table(5)'s default."""
    cf = read(file, MYSQL)
    assert (cf.result_format, cf.domain, cf.expansion_limit, cf.require_result_set) == (
        b"%s",
        (),
        0,
        True,
    )
    assert (cf.hosts, cf.option_group, cf.option_file, cf.tls_verify_cert, cf.charset) == (
        ("localhost",),
        "client",
        None,
        None,
        "utf8mb4",
    )
    assert (cf.retry_interval, cf.idle_interval, cf.sqlite) == (60, 60, False)


def test_every_parameter_is_read(file: Path) -> None:
    """Each parameter of mysql_table(5) arrives typed."""
    cf = read(
        file,
        MYSQL
        + "user = u\npassword = p#'\" =x\nhosts = unix:/run/db.sock, inet:db:3307 db2\nresult_format = <%s>\n"
        "domain = a.example, !b.example\nexpansion_limit = 9\nrequire_result_set = No\ncharset = latin1\n"
        "retry_interval = 5\nidle_interval = 6\noption_file = /o\noption_group =\n"
        "tls_cert_file = /c\ntls_key_file = /k\ntls_CAfile = /ca\ntls_CApath = /cas\ntls_ciphers "
        "= HIGH\ntls_verify_cert = YES\n",
    )
    assert (cf.dbname, cf.user, cf.password) == ("mail", "u", "p#'\" =x")
    assert cf.hosts == ("unix:/run/db.sock", "inet:db:3307", "db2")
    assert (cf.query, cf.result_format, cf.domain) == (
        b"SELECT 1",
        b"<%s>",
        ("a.example", "!b.example"),
    )
    assert (
        cf.expansion_limit,
        cf.require_result_set,
        cf.charset,
        cf.retry_interval,
        cf.idle_interval,
    ) == (9, False, "latin1", 5, 6)
    assert (cf.option_file, cf.option_group, cf.tls_cert_file, cf.tls_key_file) == (
        "/o",
        "",
        "/c",
        "/k",
    )
    assert (cf.tls_ca_file, cf.tls_ca_path, cf.tls_ciphers, cf.tls_verify_cert) == (
        "/ca",
        "/cas",
        "HIGH",
        True,
    )


def test_lines_are_joined_as_by_postfix(file: Path) -> None:
    """A line that begins with white space goes on with the one before and keeps its blanks.

    Comments and empty lines do not end it.
    """
    cf = read(
        file, "#first\nquery=SELECT a\n  FROM b\n# WHERE no\n\n  \t\n\tWHERE c='%s'\ndbname=mail"
    )
    assert cf.query == b"SELECT a  FROM b\tWHERE c='%s'"
    assert cf.dbname == "mail"


def test_returns_before_newlines_are_white_space(file: Path) -> None:
    """A file with CRLF is read: the return at a value's end is trimmed, one within a value stays, as in Postfix."""
    cf = read(file, b"# c\r\n\r\nquery = SELECT 1\r\n  + 1\r\ndbname = mail\r\n")
    assert cf.query == b"SELECT 1\r  + 1"
    assert cf.dbname == "mail"


def test_dollar_signs_mean_nothing(file: Path) -> None:
    """Postfix expands $name in main.cf, not in table files."""
    cf = read(
        file, "dbname = $x\npassword = ${password}\nquery = SELECT j->'$.mail' WHERE p='$(y)'\n"
    )
    assert (cf.dbname, cf.password, cf.query) == (
        "$x",
        "${password}",
        b"SELECT j->'$.mail' WHERE p='$(y)'",
    )


def test_the_older_form_makes_a_query(file: Path) -> None:
    """table, select_field, where_field and additional_conditions stand for a missing or empty
    query, with the blank at the end.
    """
    text = "dbname = mail\nquery =\ntable = alias\nselect_field = goto\nwhere_field = address\n"
    assert read(file, text).query == b"SELECT goto FROM alias WHERE address='%s' "
    assert (
        read(file, text + "additional_conditions = and active = '1'").query
        == b"SELECT goto FROM alias WHERE address='%s' and active = '1'"
    )


def test_a_query_wins_over_the_older_form(file: Path) -> None:
    """With a query, the older form is ignored."""
    assert read(file, MYSQL + "table = alias\n").query == b"SELECT 1"


def test_a_file_with_dbpath_is_sqlite(file: Path) -> None:
    """A dbpath without a dbname makes it a file of sqlite_table(5), where parameters of the other
    manual are passed over.
    """
    cf = read(file, "dbpath = /var/mail.db\nquery = SELECT 1\nrequire_result_set = maybe\n")
    assert (cf.sqlite, cf.dbpath) == (True, "/var/mail.db")


def test_unknown_names_are_kept_aside(file: Path) -> None:
    """A name that no manual knows is no fault."""
    assert read(file, MYSQL + "version = 3\n").unknown == {"version": "3"}


def test_the_last_of_equal_names_wins(file: Path) -> None:
    """Postfix logs a replaced value and goes on; the warning shows no value, which may be a password."""
    cf = read(file, MYSQL + "password = one\npassword = two\npassword = two\n")
    assert cf.password == "two"
    assert cf.warnings == (f"{file}: line 4: password replaces the one of line 3",)


def test_a_line_that_continues_nothing_is_ignored(file: Path) -> None:
    """Postfix logs it and goes on, and so do its continuations."""
    cf = read(file, "  stray = 1\n more\n" + MYSQL)
    assert len(cf.warnings) == 1
    assert not cf.unknown


def test_values_may_be_other_than_utf8(file: Path) -> None:
    """Bytes of another character set stay in queries and come back from texts."""
    cf = read(file, b"dbname = mail\nquery = SELECT '\xe9'\nuser = \xe9\n")
    assert cf.query == b"SELECT '\xe9'"
    assert cf.user.encode("utf-8", "surrogateescape") == b"\xe9"


def test_a_password_is_never_shown(file: Path) -> None:
    """The repr has no password."""
    assert "geheim" not in repr(read(file, MYSQL + "password = geheim\n"))


def test_parameters_know_their_lines(file: Path) -> None:
    """A later fault can name the line where a parameter begins; the older form's first line stands for its query."""
    cf = read(file, MYSQL)
    assert (cf.where("query"), cf.where("domain")) == ("line 2: query", "domain")
    assert (
        read(file, "dbname = m\ntable = t\nselect_field = f\nwhere_field = w\n").where("query")
        == "line 2: table"
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("query SELECT 1\n", "line 1: the '=' after the name is missing; "),
        ("=x\n", "line 1: the name before '=' is missing; "),
        (b"query = a\0b\n", "line 1: holds a NUL byte; "),
        ("query = SELECT 1\n", "dbname: is missing; write dbname = "),
        ("dbname =\nquery = SELECT 1\n", "line 1: dbname: is empty; write dbname = "),
        ("dbpath =\nquery = SELECT 1\n", "line 1: dbpath: is empty; write dbpath = "),
        ("dbname = mail\n", "query: is missing; write query = "),
        ("dbname = mail\ntable = t\nselect_field = f\n", "where_field: is missing; "),
        (MYSQL + "result_format =\n", "line 3: result_format: is empty; "),
        (
            MYSQL + "expansion_limit = 0x10\n",
            "line 3: expansion_limit: '0x10' is not a whole number; ",
        ),
        (
            MYSQL + "expansion_limit = 2147483648\n",
            "line 3: expansion_limit: '2147483648' is not a whole number; ",
        ),
        (MYSQL + f"expansion_limit = {'9' * 5000}\n", "line 3: expansion_limit: "),
        (
            MYSQL + "require_result_set = true\n",
            "line 3: require_result_set: 'true' is neither yes nor no; ",
        ),
        (MYSQL + "retry_interval = 0\n", "line 3: retry_interval: 0 is less than 1; "),
    ],
)
def test_what_postfix_refuses_is_a_fault(file: Path, text: str | bytes, expected: str) -> None:
    """A fault names the file, the line and what to write."""
    assert faults(file, text)[0].startswith(expected)


def test_all_faults_are_named_at_once(file: Path) -> None:
    """Three mistakes are three faults."""
    assert len(faults(file, "expansion_limit = x\nrequire_result_set = 1\nquery = SELECT 1\n")) == 3


def test_an_unreadable_file_is_named(file: Path) -> None:
    """A missing file is a fault with the reason."""
    with pytest.raises(ConfigError, match="cannot be read: No such file or directory"):
        read_postfix_cf(file)
