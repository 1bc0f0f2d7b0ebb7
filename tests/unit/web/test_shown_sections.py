from __future__ import annotations

import pytest

from mailmapd.config.loader import parse_config
from mailmapd.web.shown_sections import HIDDEN, shown_sections

CONFIG = """
[listen]
socketmap = ["unix:/run/a", "127.0.0.1:2552"]
[listen.tcp_table]
aliases = "127.0.0.1:2553"
[database.mail]
driver = "mysql"
user = "mail"
password = "s3cr3t"
[table.alias]
database = "mail"
query = "{query}"
[map.aliases]
tables = ["alias"]
"""


def shown(query: str = "SELECT 1", text: str = CONFIG) -> dict[str, dict[str, str]]:
    config = parse_config(text.format(query=query), "x.toml")
    return {name: dict(settings) for name, settings in shown_sections(config)}


def test_what_is_set() -> None:
    """Every key that is set is shown under its section, defaults only where they matter most."""
    sections = shown()
    assert sections["listen"] == {"socketmap": "unix:/run/a, 127.0.0.1:2552"}
    assert sections["listen.tcp_table.aliases"] == {"address": "127.0.0.1:2553"}
    assert sections["map.aliases"] == {"tables": "alias"}
    assert sections["cache"]["ttl"] == "300 s"
    assert sections["state"]["passwords"] == "false"


def test_passwords() -> None:
    """A password is never shown."""
    assert shown()["database.mail"] == {"driver": "mysql", "user": "mail", "password": HIDDEN}
    assert "s3cr3t" not in str(shown())


@pytest.mark.parametrize(
    ("query", "visible"),
    [
        ("SELECT a FROM t WHERE k = '%s'", "SELECT a FROM t WHERE k = '%s'"),
        ("SELECT a FROM t WHERE k = '%u@%d'", "SELECT a FROM t WHERE k = '%u@%d'"),
        (
            "SELECT AES_DECRYPT(p, 'k3y') FROM t WHERE k = '%s'",
            "SELECT AES_DECRYPT(p, '…') FROM t WHERE k = '%s'",
        ),
        ("SELECT 'it''s %s'", "SELECT '…'"),
        ("SELECT x'6b3379', X'6b', b'1'", "SELECT x'…', X'…', b'…'"),
        ("SELECT 0x6b3379, _latin1'k3y', N'k3y'", "SELECT …, _latin1'…', N'…'"),
        ("SELECT 12345678, 1, 10 FROM t1 LIMIT 1.5e9", "SELECT …, 1, 10 FROM t1 LIMIT …"),
        ("SELECT 1 /* don't: k3y */ FROM t -- k3y", "SELECT 1 /* … */ FROM t /* … */"),
        ("SELECT 1 # k3y's", "SELECT 1 /* … */"),
        ("SELECT `a'b`, 'k3y', `c'd`", "SELECT `a'b`, '…', `c'd`"),
        ("SELECT 'k3y", "SELECT '…'"),
        ("SELECT a FROM t WHERE n = %1 AND k = '%2'", "SELECT a FROM t WHERE n = %1 AND k = '%2'"),
        ("SELECT 'a\\\\'k3y'", HIDDEN),  # with NO_BACKSLASH_ESCAPES, k3y is no text
        ("SELECT 1 /*!50000 , 'k3y' */", "SELECT 1 /* … */"),
    ],
)
def test_literals(query: str, visible: str) -> None:
    """Texts, numbers and comments of a query are hidden, because they may be keys; expansions and names are not."""
    assert shown(query)["table.alias"]["query"] == visible


def test_literals_of_sqlite() -> None:
    """A backslash ends no text of SQLite's, so that what follows one is hidden like every text."""
    sqlite = CONFIG.replace(
        'driver = "mysql"\nuser = "mail"\npassword = "s3cr3t"', 'driver = "sqlite"\npath = "x"'
    )
    visible = shown("SELECT 'a\\\\' || 'k3y' FROM t", sqlite)["table.alias"]["query"]
    assert visible == "SELECT '…' || '…' FROM t"
