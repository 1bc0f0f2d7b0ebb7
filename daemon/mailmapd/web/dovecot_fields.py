"""User fields of Dovecot 2.3 under the names that Dovecot 2.4 understands.

Dovecot 2.4 reads userdb fields as settings and ignores old names without a word, so a query written
for 2.3 would lose its mail location and its quota. The two fields that every such query returns are
translated:

    mail = maildir:~/Maildir:INDEX=/idx  →  mail_driver = maildir, mail_path = ~/Maildir, mail_index_path = /var/idx
    quota_rule = *:bytes=1048576               →  quota_storage_size = 1048576B
    quota_rule = *:storage=1024:messages=100   →  quota_storage_size = 1024k, quota_message_count = 100

Other fields, and values that are not of these forms, pass unchanged.
"""

from __future__ import annotations

import json
import re
from functools import lru_cache

_MAIL_OPTIONS = {
    "INBOX": "mail_inbox_path",
    "INDEX": "mail_index_path",
    "CONTROL": "mail_control_path",
    "ALT": "mail_alt_path",
    "VOLATILEDIR": "mail_volatile_path",
    "LAYOUT": "mailbox_list_layout",
}
_PREFIX = "userdb_"
_SIZE = re.compile(r"(\d+)([bkmgt]?)", re.IGNORECASE)

Fields = dict[str, str]


def for_dovecot24(payload: bytes, *, passdb: bool) -> bytes:
    """Return the JSON object with the user fields renamed.

    A passdb's user fields are those that begin with ``userdb_``.
    """
    if b'mail"' not in payload and b"quota_rule" not in payload:
        return payload
    return _translated(payload, _PREFIX if passdb else "")


@lru_cache(maxsize=10_000)
def _translated(payload: bytes, prefix: str) -> bytes:
    result: Fields = {}
    for name, value in json.loads(
        payload.decode("utf-8", "surrogateescape"), strict=False, object_pairs_hook=list
    ):
        translated = None
        if name == f"{prefix}mail":
            translated = _mail(value)
        elif name == f"{prefix}quota_rule":
            translated = _quota_rule(value)
        if translated is None:
            result[name] = value
        else:
            result |= {prefix + key: text for key, text in translated.items()}
    return json.dumps(result, ensure_ascii=False).encode("utf-8", "surrogateescape")


def _mail(value: str) -> Fields | None:
    driver, colon, location = value.partition(":")
    if not colon:
        return None
    path, *options = location.split(":")
    fields = {"mail_driver": driver, "mail_path": path}
    for option in options:
        key, equals, text = option.partition("=")
        if not equals or key not in _MAIL_OPTIONS:
            return None
        fields[_MAIL_OPTIONS[key]] = text
    return fields


def _quota_rule(value: str) -> Fields | None:
    mask, _, limits = value.partition(":")
    if mask != "*":
        return None
    fields: Fields = {}
    for limit in limits.split(":"):
        resource, _, text = limit.partition("=")
        size = _SIZE.fullmatch(text)
        if size is None:
            return None
        if resource == "messages" and not size[2]:
            fields["quota_message_count"] = text
        elif resource in ("bytes", "storage"):
            unit = size[2] or ("k" if resource == "storage" else "B")
            fields["quota_storage_size"] = size[1] + (unit.upper() if unit.lower() != "k" else "k")
        else:
            return None
    return fields
