"""User fields of Dovecot 2.3 under the names that Dovecot 2.4 understands.

Dovecot 2.4 reads userdb fields as settings and ignores every name that it does not know without a
word, so a query written for 2.3 would lose its mail location, and its mailboxes their limits:

    mail = maildir:~/Maildir:INDEX=/idx:UTF-8  →  mail_driver = maildir, mail_path = ~/Maildir, mail_index_path = /idx,
                                                  mailbox_list_utf8 = yes
    quota_rule = *:bytes=1048576               →  quota_storage_size = 1048576B
    quota_rule = *:storage=100MB               →  quota_storage_size = 104857600B (2.3 reads the unit's first letter)
    quota_rule2 = *:messages=100               →  quota_message_count = 100

What is of these fields and has no equal in 2.4 (a limit of one mailbox, a rule that 2.3 refuses,
`sieve`) is a DataError: the user has a temporary failure that says why, never a mailbox without a
limit. Fields of other names pass unchanged.

See lib-storage/mail-storage-settings.c and plugins/quota/quota.c of 2.3, and "Upgrading from 2.3 to
2.4" of Dovecot's manual.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from mailmapd.errors import DataError

_PREFIX = "userdb_"
_FIELD = re.compile(rb'"(?:userdb_)?(?:mail|mail_location|quota|quota\d*_|sieve|acl)')
"""Begins every name that is looked at; most rows hold none, and are passed on as they are."""

_DRIVERS = frozenset(("maildir", "mbox", "sdbox", "mdbox", "imapc"))
_MAIL_PATHS = {
    "INBOX": "mail_inbox_path",
    "INDEX": "mail_index_path",
    "INDEXPVT": "mail_index_private_path",
    "CONTROL": "mail_control_path",
    "ALT": "mail_alt_path",
    "VOLATILEDIR": "mail_volatile_path",
    "LAYOUT": "mailbox_list_layout",
    "SUBSCRIPTIONS": "mailbox_subscriptions_filename",
    "LISTINDEX": "mailbox_list_index_prefix",
    "MAILBOXDIR": "mailbox_root_directory_name",
}
_MAIL_WORDS = {"UTF-8": "mailbox_list_utf8"}

_RULE = re.compile(r"quota_rule(\d*)")
_LIMIT = re.compile(r"\s*(\d+)(.?).*", re.DOTALL)
_UNITS = {"B": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_LARGEST = (1 << 63) - 1

_IGNORED = re.compile(
    r"quota|quota\d+|quota\d+_rule\d*|quota\d*_(?:warning|over_flag|over_script|grace|max_mail_size|exceeded_message)\w*"
    r"|sieve|sieve_(?:dir|global|global_dir|global_path|default|default_name|before|after|extprograms|redirect)\w*"
    r"|sieve\d+|acl|acl\d+|acl_shared_dict"
)
_INSTEAD = {
    "sieve": "write sieve_script { } into Dovecot's configuration",
    "acl": "write acl_driver into Dovecot's configuration",
    "quota": "write quota { } into Dovecot's configuration",
}
"""Remedies for a field that 2.4 ignores, by the first word of its name."""

Fields = dict[str, str]


def for_dovecot24(payload: bytes, *, passdb: bool) -> bytes:
    """Return the JSON object with the user fields renamed. Raises DataError for what 2.4 would ignore.

    A passdb's user fields are those that begin with ``userdb_``.
    """
    if _FIELD.search(payload) is None:
        return payload
    return _translated(payload, _PREFIX if passdb else "")


def ignored_by_dovecot24(name: str) -> bool:
    """Return whether 2.4 ignores a user field of 2.3, whatever it holds, and nothing takes its place."""
    return _IGNORED.fullmatch(name) is not None


def translate(name: str, value: str) -> Fields | None:
    """Return what a user field of 2.3 is in 2.4, or None for one that is the same.

    Raises DataError for what has no equal.
    """
    if name in ("mail", "mail_location"):
        return dict(_mail(name, value))
    if _RULE.fullmatch(name):
        return _quota_rule(name, value)
    if ignored_by_dovecot24(name):
        word = re.split(r"[\d_]", name, maxsplit=1)[0]
        raise _refused(name, f"is ignored by Dovecot 2.4: {_INSTEAD[word]}, and remove the column")
    return None


def _translated(payload: bytes, prefix: str) -> bytes:
    members = json.loads(
        payload.decode("utf-8", "surrogateescape"), strict=False, object_pairs_hook=list
    )
    result: Fields = {}
    for name, value in sorted(members, key=lambda member: _rule_number(member[0], prefix)):
        own = name.removeprefix(prefix) if name.startswith(prefix) else None
        translated = None if own is None else translate(own, value)
        if translated is None:
            result[name] = value
        else:
            result |= {prefix + key: text for key, text in translated.items()}
    return json.dumps(result, ensure_ascii=False).encode("utf-8", "surrogateescape")


def _rule_number(name: str, prefix: str) -> int:
    """Return a rule's number: a later one replaces the limits of an earlier one, in whatever order a row has them."""
    match = _RULE.fullmatch(name.removeprefix(prefix))
    return 0 if match is None else int(match[1] or 1)


def _mail(name: str, value: str) -> Iterator[tuple[str, str]]:
    driver, colon, location = value.partition(":")
    if not colon or driver not in _DRIVERS:
        raise _refused(
            name, f"does not begin with one of {', '.join(sorted(_DRIVERS))}, and a colon"
        )
    if "%" in location or "::" in location:
        raise _refused(name, "holds a % or ::, which Dovecot 2.4 reads otherwise: write it in SQL")
    path, *options = location.split(":")
    if not path:
        raise _refused(name, "names no path")
    yield "mail_driver", driver
    yield "mail_path", path
    for option in options:
        key, equals, text = option.partition("=")
        if equals and key in _MAIL_PATHS:
            yield _MAIL_PATHS[key], text
        elif option in _MAIL_WORDS:
            yield _MAIL_WORDS[option], "yes"
        else:
            raise _refused(name, f"has an option without an equal in Dovecot 2.4: {_shown(option)}")


def _quota_rule(name: str, value: str) -> Fields:
    mask, colon, limits = value.partition(":")
    if not colon or not limits:
        raise _refused(name, "is no rule, and Dovecot 2.3 refuses it, too")
    if mask not in ("*", "?"):
        what = "is a limit of one mailbox, which no user field of Dovecot 2.4 can give"
        remedy = "write quota_storage_extra or quota_ignore into mailbox { } of its configuration"
        raise _refused(name, f"({_shown(value)}) {what}: {remedy}")
    fields: Fields = {}
    for limit in limits.split(":"):
        resource, _, text = limit.partition("=")
        if resource == "messages":
            fields["quota_message_count"] = str(_number(name, limit, text, 1))
        elif resource in ("bytes", "storage"):
            number = _number(name, limit, text, 1 if resource == "bytes" else 1024)
            fields["quota_storage_size"] = f"{number}B"
        else:
            raise _refused(
                name, f"has a limit that is unknown to Dovecot 2.3, too: {_shown(limit)}"
            )
    return fields


def _number(name: str, limit: str, text: str, default: int) -> int:
    """Return the limit; as in 2.3 only the first letter of a unit counts, and 0 means no limit."""
    match = _LIMIT.fullmatch(text)
    unit = "" if match is None else match[2].upper()
    multiplier = _UNITS.get(unit) if unit else default
    if match is None or multiplier is None:
        raise _refused(name, f"has a limit that Dovecot 2.3 refuses, too: {_shown(limit)}")
    number = int(match[1]) * multiplier
    if number > _LARGEST:
        raise _refused(name, f"has a limit that is too large: {_shown(limit)}")
    return number


def _shown(text: str) -> str:
    """Return a piece of a value for a message that the Lua script can read and a log can hold."""
    return re.sub(r"[^\x20\x21\x23-\x5b\x5d-\x7e]", "?", text)[:60]


def _refused(name: str, problem: str) -> DataError:
    return DataError(f"the user field {name} {problem}")
