"""What Dovecot 2.4 would make of the user fields of a dict."""

from __future__ import annotations

import pytest

from mailmapd.check.dovecot_rows import ignored_name_findings, row_findings
from mailmapd.config.loader import parse_config
from mailmapd.model import ResultSet
from mailmapd.plan.dict_plan import plan_dicts

CONFIG = """\
[listen]
%s = "unix:/run/mailmapd/lookup"
[database.mail]
driver = "sqlite"
path = "/mail.db"
[table.passdb]
database = "mail"
dovecot_query = "SELECT password, sieve AS userdb_sieve, sieve FROM mailbox WHERE u = '%%u'"
[table.userdb]
database = "mail"
dovecot_query = "SELECT home, m.sieve, CONCAT('*:bytes=', quota) AS quota_rule FROM mailbox m WHERE u = '%%u'"
[dict.auth]
passdb = "passdb"
userdb = "userdb"
"""


@pytest.mark.parametrize(
    ("listener", "tables"),
    [("lookup_http", ["auth.passdb", "auth.userdb"]), ("http", [])],
)
def test_names_of_23(listener: str, tables: list[str]) -> None:
    """A column that 2.4 ignores is a fault of its table where 2.4 is served, and only the column's own name counts."""
    config = parse_config(CONFIG % listener, "mailmapd.toml")
    found = list(ignored_name_findings(config, plan_dicts(config).values()))
    assert [finding.where for finding in found] == [f"table {name}" for name in tables]
    assert all("sieve is ignored by Dovecot 2.4" in finding.problem for finding in found)


def test_values_of_23() -> None:
    """A value without an equal in 2.4 is told once for its table, and other rows say nothing."""
    rows = ResultSet(
        ("home", "quota_rule2"),
        ((b"/a", b"Trash:ignore"), (b"/b", None), (b"/c", b"*:bytes=1"), (b"/d", b"Trash:ignore")),
    )
    assert [finding.problem for finding in row_findings("auth.userdb", "", [rows])] == [
        (
            "the user field quota_rule2 (Trash:ignore) is a limit of one mailbox, which no user field of "
            "Dovecot 2.4 can give: write quota_storage_extra or quota_ignore into mailbox { } of its configuration; "
            "over Dovecot 2.4 such a user has a temporary failure"
        )
    ]
    assert not list(row_findings("auth.passdb", "userdb_", [rows]))
