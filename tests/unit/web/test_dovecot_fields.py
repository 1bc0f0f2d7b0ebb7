from __future__ import annotations

import json

import pytest

from mailmapd.web.dovecot_fields import for_dovecot24


def translate(fields: dict[str, str], *, passdb: bool = False) -> dict[str, str]:
    result: dict[str, str] = json.loads(for_dovecot24(json.dumps(fields).encode(), passdb=passdb))
    return result


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({"mail": "maildir:~/Maildir"}, {"mail_driver": "maildir", "mail_path": "~/Maildir"}),
        (
            {"mail": "mdbox:/srv/m:INDEX=/idx:ALT=/alt:LAYOUT=fs"},
            {
                "mail_driver": "mdbox",
                "mail_path": "/srv/m",
                "mail_index_path": "/idx",
                "mail_alt_path": "/alt",
                "mailbox_list_layout": "fs",
            },
        ),
        ({"quota_rule": "*:bytes=1048576"}, {"quota_storage_size": "1048576B"}),
        ({"quota_rule": "*:bytes=0"}, {"quota_storage_size": "0B"}),
        ({"quota_rule": "*:bytes=10m"}, {"quota_storage_size": "10M"}),
        ({"quota_rule": "*:storage=1024"}, {"quota_storage_size": "1024k"}),
        (
            {"quota_rule": "*:storage=5M:messages=100"},
            {"quota_storage_size": "5M", "quota_message_count": "100"},
        ),
        ({"home": "/srv/a", "uid": "1", "x": "é"}, {"home": "/srv/a", "uid": "1", "x": "é"}),
    ],
)
def test_translation(old: dict[str, str], new: dict[str, str]) -> None:
    """The fields of 2.3 become settings of 2.4, everything else stays."""
    assert translate(old) == new


@pytest.mark.parametrize(
    "field",
    [
        {"mail": "/srv/mbox"},
        {"mail": "maildir:/x:ODD"},
        {"quota_rule": "Trash:storage=1M"},
        {"quota_rule": "*:storage=+10%"},
    ],
)
def test_other_forms_pass_unchanged(field: dict[str, str]) -> None:
    """A value of another form is left as it is."""
    assert translate(field) == field


def test_passdb_translates_prefetch_fields_only() -> None:
    """In a passdb answer the user fields carry the prefix userdb_."""
    assert translate({"mail": "maildir:/x", "userdb_mail": "maildir:/x"}, passdb=True) == {
        "mail": "maildir:/x",
        "userdb_mail_driver": "maildir",
        "userdb_mail_path": "/x",
    }


def test_bytes_outside_utf8_pass() -> None:
    """Bytes that are not UTF-8 survive the translation."""
    assert (
        for_dovecot24(b'{"mail": "maildir:/x", "n": "\xe9"}', passdb=False)
        == b'{"mail_driver": "maildir", "mail_path": "/x", "n": "\xe9"}'
    )
