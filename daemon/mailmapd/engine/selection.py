"""Selections: which entries of a table may hold something about a key, a user or a domain.

Entries are cached under SQL keys, the part of a key that a query depends on, so a selection errs on
the side of forgetting too much: an entry dropped without need costs one query, an entry kept would
go on giving an old answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from mailmapd.engine.definition import PostfixDefinition
from mailmapd.engine.dicts.definition import DictDefinition
from mailmapd.engine.maps.map import Map
from mailmapd.engine.table import Table
from mailmapd.template.fold import fold

Matcher = Callable[[bytes], bool]

_ELSEWHERE = b"elsewhere.invalid"  # a domain that nobody has, see RFC 2606


def _nothing(_: bytes) -> bool:
    return False


@dataclass
class Selection:
    """Entries of one table: those under `keys`, those whose SQL key `matches`, or `everything`."""

    keys: set[bytes] = field(default_factory=set)
    matches: Matcher | None = None
    everything: bool = False


def of_key(table: Table, key: bytes) -> Selection:
    """Select what a lookup of exactly this key reads in the table.

    Of a dict's table, what is about the user of this name.
    """
    definition = table.definition
    if isinstance(definition, DictDefinition):
        return _of_dict_user(definition, key, _nothing)
    return Selection(
        _sql_keys(definition, [key]) if isinstance(definition, PostfixDefinition) else set()
    )


def of_lookup(map_: Map, key: bytes) -> dict[str, Selection]:
    """Select what a lookup of the key in the map may read.

    In every table every key that the search tries, and the hosted domain.
    """
    found: dict[str, Selection] = {}
    names = [search_key.key for search_key in map_.search.keys(key)]
    for part in map_.tables:
        found.setdefault(part.table.name, Selection()).keys.update(
            _sql_keys(part.definition, names)
        )
    _, at, domain = key.rpartition(b"@")
    if map_.hosted is not None and at and domain:
        for name, selection in of_lookup(map_.hosted, domain).items():
            found.setdefault(name, Selection()).keys.update(selection.keys)
    return found


def of_user(table: Table, user: bytes, maps: Iterable[Map], delimiters: bytes) -> Selection:
    """Select what may be about a user (an address).

    Every key that a map's search tries for it, and the user with any extension.
    """
    with_extension = _extended(user, maps, delimiters)
    definition = table.definition
    if isinstance(definition, DictDefinition):
        return _of_dict_user(definition, user, with_extension)
    keys = of_key(table, user).keys
    for map_ in maps:
        keys |= of_lookup(map_, user).get(table.name, Selection()).keys
    return Selection(keys, lambda sql_key: with_extension(sql_key.partition(b"\0")[0]))


def of_domain(table: Table, domain: bytes) -> Selection:
    """Select what may be about a domain: itself, its catch-all, every address and user in it.

    Its parents and subdomains stay.
    """
    folded = fold(domain) or domain
    definition = table.definition
    if isinstance(definition, DictDefinition):
        here, elsewhere = (
            definition.query.sql_key({"user": b"probe@" + name}) for name in (folded, _ELSEWHERE)
        )
        return _of_probed_domain(here, elsewhere, folded, set())
    if not isinstance(definition, PostfixDefinition):
        return Selection(everything=True)
    keys = _sql_keys(definition, [domain, b"@" + domain])
    here, elsewhere = (
        definition.template.sql_key(b"probe@" + name) for name in (folded, _ELSEWHERE)
    )
    return _of_probed_domain(here, elsewhere, folded, keys)


def _of_probed_domain(
    here: bytes | None, elsewhere: bytes | None, domain: bytes, keys: set[bytes]
) -> Selection:
    """Select by what a probe's SQL key shows: where it holds the domain itself, look for it.

    Where it holds no trace of it, take all.
    """
    if here is None:
        return Selection(keys)
    parts = here.split(b"\0")
    others = parts if elsewhere is None else elsewhere.split(b"\0")
    places = [place for place, part in enumerate(parts) if part in (domain, b"probe@" + domain)]
    if places:
        suffix = b"@" + domain

        def matches(sql_key: bytes) -> bool:
            found = [fold(part) or part for part in sql_key.split(b"\0")]
            return any(
                found[place] == domain or found[place].endswith(suffix)
                for place in places
                if place < len(found)
            )

        return Selection(keys, matches)
    if elsewhere is not None and here != elsewhere and len(parts) == len(others):
        labels = [
            place
            for place, (one, other) in enumerate(zip(parts, others, strict=True))
            if one != other
        ]

        def same_labels(sql_key: bytes) -> bool:
            found = sql_key.split(b"\0")
            return len(found) == len(parts) and all(
                (fold(found[place]) or found[place]) == parts[place] for place in labels
            )

        return Selection(keys, same_labels)
    return Selection(everything=True)


def _of_dict_user(definition: DictDefinition, user: bytes, with_extension: Matcher) -> Selection:
    query = definition.query
    is_about, is_about_folded = query.about(user), query.about(fold(user) or user)

    def matches(sql_key: bytes) -> bool:
        if (
            is_about(sql_key)
            or is_about_folded(sql_key)
            or is_about_folded(fold(sql_key) or sql_key.lower())
        ):
            return True
        return any(with_extension(part) for part in sql_key.split(b"\0"))

    return Selection(matches=matches)


def _sql_keys(definition: PostfixDefinition, names: Iterable[bytes]) -> set[bytes]:
    """Return the SQL keys of the names, as they are and folded.

    Whether a table folds is a matter of the map that asks it.
    """
    spellings = {
        spelling
        for name in names
        for spelling in (name, name.lower(), fold(name))
        if spelling is not None
    }
    found = [definition.template.sql_key(spelling) for spelling in spellings]
    return {sql_key for sql_key in found if sql_key is not None}


def _extended(user: bytes, maps: Iterable[Map], delimiters: bytes) -> Matcher:
    """Return what tells whether a text is the user's address, or bare local part, with an extension."""
    addresses = {
        user,
        *(
            search_key.key
            for map_ in maps
            for search_key in map_.search.keys(user)
            if not search_key.key.startswith(b"@")
        ),
    }
    folded = [
        (fold(address) or address).rpartition(b"@") for address in addresses if b"@" in address
    ]
    domain = b"@" + (fold(user) or user).rpartition(b"@")[2]
    prefixes = tuple(
        {
            local.removesuffix(b'"') + bytes([delimiter])
            for local, _, _ in folded
            if local
            for delimiter in delimiters
        }
    )

    def matches(text: bytes) -> bool:
        text = fold(text) or text
        return text.startswith(prefixes) and (text.endswith(domain) or b"@" not in text)

    return matches if prefixes else _nothing
