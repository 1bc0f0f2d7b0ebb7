from __future__ import annotations

import pytest

from mailmapd.config.loader import parse_config
from mailmapd.config.shown import HIDDEN, shown_sections

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


def shown(query: str = "SELECT 1") -> dict[str, dict[str, str]]:
    return {
        name: dict(settings)
        for name, settings in shown_sections(parse_config(CONFIG.format(query=query), "x.toml"))
    }


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
        ("SELECT 'a\\\\'k3y'", "SELECT '…'"),
    ],
)
def test_literals(query: str, visible: str) -> None:
    """Texts inside a query are hidden, because they may be keys; expansions are not."""
    assert shown(query)["table.alias"]["query"] == visible
