"""Dicts whose password query gives no password."""

from __future__ import annotations

import json

import pytest

from mailmapd.check.dovecot_traps import dovecot_findings
from mailmapd.config.loader import parse_config
from mailmapd.plan.dict_plan import plan_dicts


@pytest.mark.parametrize(
    ("query", "codes"),
    [
        ("SELECT hash FROM m WHERE u = '%u'", ["no_password"]),
        ("SELECT hash AS password FROM m WHERE u = '%u'", []),
        ("SELECT hash AS 'password' FROM m WHERE u = '%u'", []),
        ("SELECT hash AS \"password_noscheme\" FROM m WHERE u = '%u'", []),
        ("SELECT m.* FROM m WHERE u = '%u'", []),
        ("CALL login('%u')", []),
        ("SELECT 'no password' FROM m WHERE u = '%u'", ["no_password"]),
    ],
)
def test_a_query_without_a_password(query: str, codes: list[str]) -> None:
    """A column may be named password by a word or a text; what a procedure gives is not known."""
    config = parse_config(
        '[listen]\ndict = ["unix:/d"]\n[database.d]\ndriver = "sqlite"\npath = "/x"\n'
        f'[table.p]\ndatabase = "d"\ndovecot_query = {json.dumps(query)}\n'
        '[dict.auth]\npassdb = "p"\n',
        "mailmapd.toml",
    )
    assert [finding.code for finding in dovecot_findings(config, plan_dicts(config))] == codes
