"""The reverse query: where no condition of a table names the key, the query itself says which keys a row matters to.

It is the same SELECT without the changed table and without the conditions on the key: the row's values stand for its
columns, and the columns that the key is compared with are what it selects. Tables that are not joined with the rest by
what is left would make a cross product, so the query is given up then.

Only tables whose own rows name the key stay in it. It is asked when other rows may be newer, or older, than the changed
one: of two rows that were deleted together, each would be looked for by way of the other, and not be found. A row that
names the key says so itself when it changes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from sqlglot import exp

from mailmapd.provenance.equality import BARE, OPEN, Equalities, Owner, Source
from mailmapd.provenance.reading import Part, Placeholder, Reverse, names_keys

_MARK = "mailmapd_value_of_"


def reverse_query(
    alias: str,
    sources: Mapping[str, Source],
    conditions: Iterable[exp.Expr],
    equalities: Equalities,
    owner: Owner,
) -> Reverse | None:
    """Return the query for rows of the table under `alias`, or None when there is none of this form."""
    others = [
        other for other in sources if other != alias and names_keys(equalities.bindings(other))
    ]
    left_out = set(sources) - {alias, *others}
    kept: list[str] = []
    selected: dict[str, str] = {}
    joined: dict[str, set[str]] = {other: set() for other in (alias, *others)}
    for condition in conditions:
        text = condition.sql("mysql")
        if condition.find(exp.Query):
            return None
        if OPEN in text or BARE.search(text):
            selected |= _selected(condition, others, equalities, owner)
            continue
        owners = {owner(column) for column in condition.find_all(exp.Column)}
        if None in owners:
            return None
        if owners == {alias} or owners & left_out:
            continue
        for place in owners:
            joined[str(place)] |= {str(other) for other in owners}
        kept.append(_with_values(condition, alias, owner))
    if not selected or not others or not _connected(alias, joined):
        return None
    tables = ", ".join(
        f"`{sources[place].schema}`.`{sources[place].table}` AS `{place}`" for place in others
    )
    where = " AND ".join(f"({text})" for text in kept)
    columns = ", ".join(selected.values())
    pieces = _pieces(f"SELECT DISTINCT {columns} FROM {tables} WHERE {where}")
    if not any(isinstance(piece, Placeholder) for piece in pieces):
        return None
    return Reverse(pieces, tuple(selected))


def _selected(
    condition: exp.Expr, others: list[str], equalities: Equalities, owner: Owner
) -> dict[str, str]:
    """Return the column that equals a part of the key, by the part, if the condition says just that."""
    if not isinstance(condition, exp.EQ):
        return {}
    for one, other in ((condition.left, condition.right), (condition.right, condition.left)):
        place = owner(one) if isinstance(one, exp.Column) else None
        if place in others and equalities.is_text(place, one.name.lower()):
            match equalities.pattern(other):
                case (Part(name),):
                    return {name: f"`{place}`.`{one.name}`"}
                case _:
                    pass
    return {}


def _with_values(condition: exp.Expr, alias: str, owner: Owner) -> str:
    """Return the condition with the columns of the changed table marked."""
    copy = exp.Paren(this=condition.copy())
    for column in list(copy.find_all(exp.Column)):
        if owner(column) == alias:
            column.replace(exp.Identifier(this=f"{_MARK}{column.name.lower()}", quoted=True))
        else:
            column.set("table", exp.to_identifier(owner(column), quoted=True))
    return str(copy.this.sql("mysql"))


def _connected(alias: str, joined: Mapping[str, set[str]]) -> bool:
    """Return whether every table is joined with the changed one, directly or by way of others."""
    reached, new = {alias}, {alias}
    while new:
        new = {other for place in new for other in joined[place]} - reached
        reached |= new
    return reached == set(joined)


def _pieces(sql: str) -> tuple[str | Placeholder, ...]:
    first, *rest = sql.split(f"`{_MARK}")
    pieces: list[str | Placeholder] = [first]
    for part in rest:
        column, _, text = part.partition("`")
        pieces += [Placeholder(column), text]
    return tuple(pieces)
