from __future__ import annotations

import pytest

from mailmapd.check.password_columns import password_column, password_findings
from mailmapd.check.query_texts import query_texts
from mailmapd.config.loader import parse_config

CONFIG = """
[listen]
socketmap = [{address = "unix:/run/s", MODE}]
[database.mail]
driver = "sqlite"
path = "m"
[table.relay]
database = "mail"
query = "SELECT CONCAT(user, ':', password) FROM relay WHERE host = '%s'"
SECRET
[map.smtp_sasl_password_maps]
tables = ["relay"]
"""


@pytest.mark.parametrize(
    ("query", "column"),
    [
        ("SELECT password FROM mailbox WHERE username = '%s'", "password"),
        ("select u.`mail_password` from u", "mail_password"),
        ("SELECT 1 UNION SELECT pwd_hash FROM t", "pwd_hash"),
        ("SELECT ENCRYPT(x) FROM t", "ENCRYPT"),
        ("SELECT (SELECT passwd FROM t LIMIT 1)", "passwd"),
        ("SELECT maildir FROM mailbox WHERE password <> ''", ""),
        ("SELECT 'password' FROM t", ""),
        ("SELECT destination FROM alias WHERE address = '%s'", ""),
        ("CALL find('%s')", ""),
    ],
)
def test_selected_columns(query: str, column: str) -> None:
    """A column that is selected counts, one that is compared does not, and neither does a text."""
    assert password_column(query) == column


@pytest.mark.parametrize(
    ("mode", "secret", "codes"),
    [
        ('mode = "0660"', "", ["password_column"]),
        ('mode = "0660"', "secret = true", []),
        ('mode = "0666"', "secret = true", ["open_secret"]),
        ('mode = "0666", peers = ["root"]', "secret = true", []),
    ],
)
def test_findings(mode: str, secret: str, codes: list[str]) -> None:
    """A map that gives passwords is a finding unless its table is marked, and then one that every
    account may ask is.
    """
    config = parse_config(CONFIG.replace("MODE", mode).replace("SECRET", secret), "mailmapd.toml")
    found = list(password_findings(config, query_texts(config)))
    assert [finding.code for finding in found] == codes


def test_tcp_table() -> None:
    """A secret map on a TCP socket is a finding."""
    text = CONFIG.replace("MODE", 'mode = "0660"').replace("SECRET", "secret = true")
    text += '[listen.tcp_table]\nsmtp_sasl_password_maps = "127.0.0.1:2553"\n'
    config = parse_config(text, "mailmapd.toml")
    assert [finding.where for finding in password_findings(config, query_texts(config))] == [
        "listen.tcp_table.smtp_sasl_password_maps"
    ]
