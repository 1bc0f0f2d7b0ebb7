"""Maps of aliases that know no alias: each address is itself, which is fine beside other tables and of no use alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from mailmapd.check.finding import Finding, Level
from mailmapd.check.query_rules import maps_to_itself
from mailmapd.config.schema import Config
from mailmapd.formats.main_cf import MainCf, read_main_cf
from mailmapd.formats.map_list import Member, bundle_content, parse_members

_PARAMETER = "virtual_alias_maps"
_MOVED = ("mysql", "socketmap")
_EMPTY = "texthash:/dev/null"


def identity_findings(
    config: Config, texts: Mapping[str, str], postfix: Path | None
) -> Iterator[Finding]:
    """Yield a finding when no map of aliases can have one; `postfix` is Postfix's folder, if it is to be looked at.

    The list in main.cf may hold other tables, such as hash: and pcre:, beside those that were moved: the aliases are
    there then, and an identity keeps the mailboxes' addresses from a catch-all. Raises ConfigError.
    """
    maps = [name for name in config.maps if name.startswith(_PARAMETER)]
    tables = [table for name in maps for table in config.maps[name].tables]
    if not tables or not all(maps_to_itself(texts[table]) for table in tables):
        return
    if postfix is not None and _has_other_tables(read_main_cf(postfix)):
        return
    where = f"map {', '.join(maps)}"
    problem = "its only query maps each address to itself: no alias is ever found"
    if len(tables) > 1:
        problem = "every query maps each address to itself: no alias is ever found"
    remedy = "query the table of aliases: SELECT destination … WHERE alias = '%s'"
    if postfix is None:
        problem += f", unless {_PARAMETER} in main.cf has other tables"
    level = Level.FAULT if postfix is not None else Level.WARNING
    yield Finding(level, "identity_alias", where, problem, remedy)


def _has_other_tables(main_cf: MainCf) -> bool:
    members = _flat(parse_members(main_cf.value(_PARAMETER)))
    return any(
        member.is_table and member.type not in _MOVED and member.text != _EMPTY
        for member in members
    )


def _flat(members: Iterable[Member]) -> Iterator[Member]:
    """Yield the tables, those inside of others as well."""
    for member in members:
        inner = member.inner
        if member.text.startswith("{"):
            inner = parse_members(bundle_content(member.text))
        if inner:
            yield from _flat(inner)
        else:
            yield member
