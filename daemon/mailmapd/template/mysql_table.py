"""Tables: one SQL query with the meaning of mysql_table(5).

A table turns a key into a SQL key (the part of the key that the query depends on), a SQL key into a
statement, rows into values, and values into the result text. All rules are those of db_common(3):
one set of flags serves the query and the result_format, so a result_format with ``%D`` keeps keys
without a domain from being asked at all.

No query is sent, and the key is not found, when

* it is empty, or holds a NUL (which Postfix cannot send);
* a domain list is set and the key's domain is not on it, or it has no domain, or an empty local part;
* the templates use ``%d %D %1 ... %9`` of the key and it has no domain, or an empty one;
* they use ``%u %U`` of the key and its local part is empty (``@example.com``);
* its domain has fewer labels than the highest ``%N``. Repeated dots separate labels once: ``a..b`` has two.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from mailmapd.errors import DataError, TemplateError
from mailmapd.model import ResultSet
from mailmapd.template import expansions
from mailmapd.template.domain_list import matching_domains
from mailmapd.template.expansions import Pieces
from mailmapd.template.fold import fold
from mailmapd.template.sql_lexer import Layout, Place, layout, only_reads
from mailmapd.template.statement import Hole, Statement, Value, check_fit

_new = tuple.__new__  # Statement(…) and Value(…) without their Python-level __new__

_NUL = 0  # as a number: found eight times as fast as bytes in bytes
_KEY_LETTERS = "UD123456789"
_KEY_DOMAIN_LETTERS = "D123456789"

Scope = Literal["key", "user", "domain", "nothing"]
"""The beginning of a SQL key; the labels in use follow for ``user`` and ``nothing``."""


@dataclass(frozen=True, slots=True)
class MysqlTable:
    """A compiled query and result_format; make one with `compile`.

    `identity` says that the SQL key of every key is the key itself, so that the call of `sql_key`
    can be left out (for keys that are not empty and hold no NUL); `identity_of_addresses` says that of
    every key with something on both sides of an ``@``. `result_depends_on_key` says that
    result_format uses the key.
    """

    name: str
    identity: bool
    identity_of_addresses: bool
    result_depends_on_key: bool
    _query_texts: tuple[bytes, ...]
    _query_holes: tuple[tuple[int, str, bool], ...]
    _layout: Layout
    _only_reads: bool
    _guarded: tuple[tuple[str, Place], ...]
    _asks_whole_key: bool
    _result: Pieces
    _scope: Scope
    _labels: tuple[int, ...]
    _key_user: bool
    _key_domain: bool
    _value_user: bool
    _value_domain: bool
    _label_count: int
    _domains: frozenset[bytes] | None
    _expansion_limit: int
    _require_result_set: bool
    _first_column_only: bool
    _plain_result: bool

    @classmethod
    def compile(
        cls,
        name: str,
        query: bytes,
        result_format: bytes = b"%s",
        domain: Sequence[str] = (),
        *,
        expansion_limit: int = 0,
        require_result_set: bool = True,
        first_column_only: bool = False,
        sqlite: bool = False,
    ) -> MysqlTable:
        """Check both templates and the domain list; raise TemplateError for what Postfix refuses.

        `domain` is a pattern list, in one string or several. `first_column_only` is
        sqlite_table(5)'s way: it reads the first column of each row, mysql_table(5) all of them.
        `sqlite` has the query read as SQLite reads it.
        """
        if not query:
            raise TemplateError("query: empty; write the SELECT statement to send")
        if not result_format:
            raise TemplateError("result_format: empty; leave it out for '%s', the value as it is")
        query_pieces = expansions.parse(query, "query")
        result_pieces = expansions.parse(result_format, "result_format")
        key_user = expansions.uses(query_pieces, "uU") or expansions.uses(result_pieces, "U")
        key_domain = expansions.uses(query_pieces, "d" + _KEY_DOMAIN_LETTERS) or expansions.uses(
            result_pieces, _KEY_DOMAIN_LETTERS
        )
        domains = matching_domains((domain,) if isinstance(domain, str) else domain)
        scope, labels = _scope(query_pieces)
        label_count = max(
            expansions.highest_label(query_pieces), expansions.highest_label(result_pieces)
        )
        whole = scope == "key" and domains is None
        where = _layout(query_pieces, sqlite or first_column_only)
        return cls(
            name=name,
            identity=whole and not key_user and not key_domain,
            identity_of_addresses=whole and not label_count,
            result_depends_on_key=expansions.uses(result_pieces, "S" + _KEY_LETTERS),
            _query_texts=tuple(
                [piece if isinstance(piece, bytes) else b"" for piece in query_pieces]
            ),
            _query_holes=_query_holes(query_pieces, where.places),
            _layout=where,
            _only_reads=only_reads(query.decode("latin-1"), sqlite=sqlite or first_column_only),
            _guarded=_outside_strings(query_pieces, where.places),
            _asks_whole_key=not expansions.uses(query_pieces, "uUd" + _KEY_DOMAIN_LETTERS),
            _result=result_pieces,
            _scope=scope,
            _labels=labels,
            _key_user=key_user,
            _key_domain=key_domain,
            _value_user=expansions.uses(result_pieces, "u"),
            _value_domain=expansions.uses(result_pieces, "d"),
            _label_count=label_count,
            _domains=domains,
            _expansion_limit=expansion_limit,
            _require_result_set=require_result_set,
            _first_column_only=first_column_only,
            _plain_result=result_pieces == ("s",),
        )

    def sql_key(self, key: bytes) -> bytes | None:
        """Return the part of the (folded) key that the statement depends on, or None: not found without asking."""
        if not key or _NUL in key:
            return None
        if self.identity:
            return key
        user, at, domain = key.rpartition(b"@")
        if not self._may_ask(user if at else key, domain if at else b""):
            return None
        if self._scope == "key":
            return key
        if self._scope == "domain":
            return domain
        labels = expansions.labels(domain) if self._labels else []
        parts = [labels[-number] for number in self._labels]
        if self._scope == "user":
            parts = [user if at else key, *parts]
        return b"\0".join(parts)

    def statement(self, sql_key: bytes) -> Statement:
        """Return the query for a SQL key that `sql_key` has returned.

        Raise DataError when a value cannot stand where the query puts it.
        """
        values = self._query_values(sql_key)
        for letter, place in self._guarded:
            check_fit(self.name, place, values[letter])
        pieces: list[bytes | Value] = list(self._query_texts)
        for index, letter, quoted in self._query_holes:
            pieces[index] = _new(Value, (values[letter], quoted))
        return _new(
            Statement,
            (
                self.name,
                tuple(pieces),
                self._require_result_set,
                self._layout.needs_backslashes,
                self._only_reads,
            ),
        )

    def holes(self) -> tuple[str | Hole, ...]:
        """Return the query's text, and where a part of the key goes, that part: s, u, d or a label's number."""
        found: list[str | Hole] = []
        holes = iter(self._layout.places)
        letters = {index: letter for index, letter, _ in self._query_holes}
        for index, text in enumerate(self._query_texts):
            if index in letters:
                found.append(Hole(letters[index].lower(), next(holes).is_string))
            else:
                found.append(text.decode("utf-8", "surrogateescape"))
        return tuple(found)

    def parts_of(self, sql_key: bytes) -> dict[str, bytes]:
        """Return the parts that a SQL key holds, under the names of `holes`."""
        if self._scope == "key":
            user, at, domain = sql_key.rpartition(b"@")
            parts = {"s": sql_key, "u": user if at else sql_key, "d": domain if at else b""}
            labels = expansions.labels(parts["d"])
            if len(labels) < self._label_count:
                return parts
            return parts | {str(number): labels[-number] for number in self._labels}
        return {name.lower(): value for name, value in self._query_values(sql_key).items()}

    def sql_key_of(self, parts: Mapping[str, bytes]) -> bytes | None:
        """Return the only SQL key that can hold these parts, or None when several can."""
        if self._scope == "key":
            if "s" in parts:
                return parts["s"]
            return parts["u"] + b"@" + parts["d"] if {"u", "d"} <= parts.keys() else None
        if self._scope == "domain":
            return parts.get("d")
        names = [str(number) for number in self._labels]
        found = [parts.get(name) for name in (["u", *names] if self._scope == "user" else names)]
        known = [part for part in found if part is not None]
        return b"\0".join(known) if len(known) == len(found) else None

    def values(self, result: ResultSet) -> tuple[bytes, ...]:
        """Return the values of all rows, in order, without NULL and empty ones. Nothing left means not found.

        A value ends at its first NUL byte: Postfix takes it as a C string.
        """
        width = 1 if self._first_column_only else None
        return tuple(
            [
                value if _NUL not in value else value.split(b"\0", 1)[0]
                for row in result.rows
                for value in row[:width]
                if value and value[0]
            ]
        )

    def expand(self, key: bytes, values: tuple[bytes, ...]) -> bytes | None:
        """Apply result_format to each value and join the results with commas; None when nothing is left: not found.

        `key` is the folded key that was looked up; it does not matter unless
        `result_depends_on_key`. Raise DataError when more than expansion_limit values are left.
        """
        if not self._plain_result:
            from_key = self._key_values(key) if self.result_depends_on_key else {}
            values = tuple(
                [
                    expanded
                    for value in values
                    if (expanded := self._expand_value(value, from_key)) is not None
                ]
            )
        if self._expansion_limit and len(values) > self._expansion_limit > 0:
            raise DataError(
                f"table {self.name}: one key has more than {self._expansion_limit} values (expansion_limit)"
            )
        if not values:
            return None
        return values[0] if len(values) == 1 else b",".join(values)

    def _may_ask(self, user: bytes, domain: bytes) -> bool:
        """Tell whether the key has what the domain list and both templates need; `domain` is empty when it has none."""
        if self._domains is not None and (
            not user or (fold(domain) or domain.lower()) not in self._domains
        ):
            return False
        if (self._key_domain and not domain) or (self._key_user and not user):
            return False
        return not self._label_count or len(expansions.labels(domain)) >= self._label_count

    def _query_values(self, sql_key: bytes) -> dict[str, bytes]:
        """Return what each expansion of the query stands for."""
        if self._asks_whole_key:
            return {"s": sql_key, "S": sql_key}
        if self._scope == "key":
            return self._key_values(sql_key) | {
                "s": sql_key,
                "u": _user(sql_key),
                "d": sql_key.rpartition(b"@")[2],
            }
        if self._scope == "domain":
            labels = expansions.labels(sql_key)
            return {"d": sql_key, "D": sql_key} | {
                str(number): labels[-number] for number in self._labels
            }
        parts = sql_key.split(b"\0")
        if self._scope == "user":
            user, *parts = parts
            return {"u": user, "U": user} | {
                str(number): part for number, part in zip(self._labels, parts, strict=True)
            }
        return {str(number): part for number, part in zip(self._labels, parts, strict=False)}

    def _key_values(self, key: bytes) -> dict[str, bytes]:
        """Return what the expansions that speak of the key stand for."""
        if not (self._key_user or self._key_domain):
            return {"S": key}
        domain = key.rpartition(b"@")[2]
        labels = expansions.labels(domain) if self._label_count else []
        numbered = {str(number): labels[-number] for number in range(1, self._label_count + 1)}
        return {"S": key, "U": _user(key), "D": domain} | numbered

    def _expand_value(self, value: bytes, from_key: dict[str, bytes]) -> bytes | None:
        """Apply result_format to one value, or return None when the value lacks a part that the format uses."""
        user, at, domain = value.rpartition(b"@")
        if self._value_domain and not (at and domain):
            return None
        if self._value_user and at and not user:
            return None
        parts = from_key | {"s": value, "u": user if at else value, "d": domain}
        return b"".join(
            [piece if isinstance(piece, bytes) else parts[piece] for piece in self._result]
        )


def _user(key: bytes) -> bytes:
    user, at, _ = key.rpartition(b"@")
    return user if at else key


def _layout(query: Pieces, sqlite: bool) -> Layout:
    """Return where each expansion stands. Raise TemplateError where that cannot be told."""
    texts = [piece.decode("latin-1") if isinstance(piece, bytes) else None for piece in query]
    try:
        return layout(texts, sqlite=sqlite)
    except TemplateError as error:
        raise TemplateError(f"query: {error}") from None


def _query_holes(query: Pieces, holes: Sequence[Place]) -> tuple[tuple[int, str, bool], ...]:
    """Return each expansion's index among the pieces, its letter, and whether it is between double quotes."""
    where = iter(holes)
    return tuple(
        [
            (index, piece, next(where) is Place.DOUBLE)
            for index, piece in enumerate(query)
            if isinstance(piece, str)
        ]
    )


def _outside_strings(query: Pieces, holes: Sequence[Place]) -> tuple[tuple[str, Place], ...]:
    """Return the expansions that no quoting protects, and where they stand."""
    letters = [piece for piece in query if isinstance(piece, str)]
    found = zip(letters, holes, strict=True)
    return tuple([(letter, place) for letter, place in found if not place.is_string])


def _scope(query: Pieces) -> tuple[Scope, tuple[int, ...]]:
    """Return what the SQL key must hold for this query."""
    labels = expansions.used_labels(query)
    user = expansions.uses(query, "uU")
    domain = expansions.uses(query, "dD")
    if expansions.uses(query, "sS") or (user and domain):
        return "key", labels
    if user:
        return "user", labels
    return ("domain" if domain else "nothing"), labels
