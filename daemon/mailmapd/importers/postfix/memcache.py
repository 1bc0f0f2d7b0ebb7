"""memcache_table(5): a cache in front of another table, its ``backup``, which is what the answers come from.

mailmapd is the cache itself, so that such a table moves as the ``mysql:`` table behind it. That is
the same table only when the memcache adds no rule of its own about keys.
"""

from __future__ import annotations

from pathlib import Path

from mailmapd.errors import ConfigError
from mailmapd.formats.map_list import Member, parse_members
from mailmapd.formats.postfix_cf_syntax import read_cf_file

_RULES = ("domain", "key_digest")
"""Parameters that keep keys away from the backup, or that name them otherwise."""


def memcache_backup(member: Member, queue_directory: str) -> Member | None:
    """Return the ``mysql:`` table behind a ``memcache:`` one, None when there is none that may take its place."""
    return None if why_not_its_backup(member, queue_directory) else _backup(member, queue_directory)


def why_not_its_backup(member: Member, queue_directory: str) -> str:
    """Say why the table behind a ``memcache:`` one cannot take its place; nothing when it can."""
    try:
        settings = _settings(member, queue_directory)
        backup = _backup(member, queue_directory)
    except ConfigError as error:
        return str(error)
    if backup is None:
        return "has no backup that is a mysql: table, so that nothing but the memcache answers"
    if settings.get("key_format", "%s") != "%s":
        return "has a key_format, which keeps some keys away from its backup"
    for name in _RULES:
        if settings.get(name):
            return f"has a {name}, which its backup does not know of"
    return ""


def _backup(member: Member, queue_directory: str) -> Member | None:
    found = parse_members(_settings(member, queue_directory).get("backup", ""))
    return found[0] if len(found) == 1 and found[0].mysql_file else None


def _settings(member: Member, queue_directory: str) -> dict[str, str]:
    name = member.without_proxy.partition(":")[2]
    parameters = read_cf_file(Path(queue_directory) / name).parameters
    return {
        key: parameter.value.decode("utf-8", "surrogateescape")
        for key, parameter in parameters.items()
    }
