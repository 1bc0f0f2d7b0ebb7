from __future__ import annotations

import json
import sys

import pytest

from mailmapd.errors import DataError
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
        ({"quota_rule": "*:bytes=10m"}, {"quota_storage_size": "10485760B"}),
        ({"quota_rule": "*:storage=1024"}, {"quota_storage_size": "1048576B"}),
        ({"quota_rule": "*:storage=100MB"}, {"quota_storage_size": "104857600B"}),
        ({"quota_rule": "?:storage=1Go"}, {"quota_storage_size": "1073741824B"}),
        ({"quota_rule": "*:messages=2k"}, {"quota_message_count": "2048"}),
        (
            {"quota_rule": "*:storage=5M:messages=100"},
            {"quota_storage_size": "5242880B", "quota_message_count": "100"},
        ),
        (
            {"quota_rule2": "*:bytes=7", "quota_rule": "*:bytes=5:messages=3"},
            {"quota_storage_size": "7B", "quota_message_count": "3"},
        ),
        (
            {"mail": "maildir:~/Maildir:UTF-8"},
            {"mail_driver": "maildir", "mail_path": "~/Maildir", "mailbox_list_utf8": "yes"},
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
        {"mail": ""},
        {"mail": "maildir:"},
        {"mail": "dbox:/x"},
        {"mail": "maildir:/x:ODD"},
        {"mail": "maildir:/x:ODD=1"},
        {"mail": "maildir:/srv/%d/%n"},
        {"mail_location": "maildir:/x:UTF-9"},
        {"quota_rule": "Trash:storage=1M"},
        {"quota_rule2": "Trash:storage=+10%"},
        {"quota_rule3": "Trash:ignore"},
        {"quota_rule": "*:storage=+10%"},
        {"quota_rule": "*:storage=10%"},
        {"quota_rule": "*:bytes=+10"},
        {"quota_rule": "*:bytes=-1"},
        {"quota_rule": "*:bytes="},
        {"quota_rule": "*:storage=M"},
        {"quota_rule": "*:bytes=unlimited"},
        {"quota_rule": "*:storage=1 GB"},
        {"quota_rule": "*:storage=99999999999T"},
        {"quota_rule": "*:ignore"},
        {"quota_rule": "*:backend=1000S"},
        {"quota_rule": "*:"},
        {"quota_rule": "*"},
        {"quota_rule": ""},
        {"quota2_rule": "*:bytes=1"},
        {"quota": "maildir:User quota"},
        {"quota_warning": "storage=90%% quota-warning 90"},
        {"sieve": "~/.dovecot.sieve"},
        {"sieve_before": "/x"},
        {"sieve2": "/x"},
        {"acl": "vfile"},
    ],
)
@pytest.mark.parametrize("prefix", ["", "userdb_"])
def test_what_24_would_ignore_is_a_fault(field: dict[str, str], prefix: str) -> None:
    """A user field without an equal in 2.4 is a failure that names it, never a setting that is not there."""
    fields = {prefix + name: value for name, value in field.items()}
    with pytest.raises(DataError, match=f"the user field {next(iter(field))} "):
        translate({"home": "/x", **fields}, passdb=bool(prefix))


@pytest.mark.parametrize(
    "name", ["mailbox", "mail_uid", "quota_storage_size", "sieve_script", "acl_driver", "aclx"]
)
def test_names_of_24_pass(name: str) -> None:
    """A field of another name, such as a setting of 2.4, is left as it is."""
    assert translate({name: "x:y"}) == {name: "x:y"}


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


def test_nothing_is_kept() -> None:
    """A password that was translated is kept nowhere but in the cache, which a flush empties."""
    payload = json.dumps({"password": "{PLAIN}x", "userdb_quota_rule": "*:storage=1G"}).encode()
    before = sys.getrefcount(payload)
    for_dovecot24(payload, passdb=True)
    assert sys.getrefcount(payload) == before
