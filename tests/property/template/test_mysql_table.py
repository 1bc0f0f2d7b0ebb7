from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mailmapd.model import ResultSet
from mailmapd.template.fold import fold
from mailmapd.template.mysql_table import MysqlTable
from mailmapd.template.statement import Value

EXPANSIONS = st.sampled_from(
    [b"%s", b"%u", b"%d", b"%S", b"%U", b"%D", b"%1", b"%2", b"%3", b"%%", b"'", b"x", b" "]
)
TEMPLATE = st.lists(EXPANSIONS, min_size=1, max_size=6).map(b"".join)
BETWEEN_QUOTES = TEMPLATE.map(lambda text: b"'" + text.replace(b"'", b"''") + b"'")
"""Where every value may stand."""
KEY = st.lists(
    st.sampled_from(
        [b"a", b"B", b".", b"@", b"example.com", b"'", b"%s", "ü".encode(), b"\xff", b"\0"]
    ),
    max_size=7,
).map(b"".join)
VALUES = st.lists(st.one_of(st.none(), KEY), max_size=4)


def parts_of(key: bytes) -> dict[str, bytes]:
    """Return what each expansion means, said once more and plainly."""
    user, _, domain = key.rpartition(b"@") if b"@" in key else (key, b"", b"")
    labels = [label for label in domain.split(b".") if label]
    numbered = {str(number): label for number, label in enumerate(reversed(labels), 1)}
    return {"s": key, "S": key, "u": user, "U": user, "d": domain, "D": domain} | numbered


def plainly_expanded(template: bytes, parts: dict[str, bytes]) -> bytes:
    text, rest = b"", template
    while rest:
        before, percent, rest = rest.partition(b"%")
        text += before
        if percent:
            text += b"%" if rest[:1] == b"%" else parts[rest[:1].decode()]
            rest = rest[1:]
    return text


def raw(pieces: tuple[bytes | Value, ...]) -> bytes:
    return b"".join([piece.raw if isinstance(piece, Value) else piece for piece in pieces])


@given(BETWEEN_QUOTES, TEMPLATE, KEY)
def test_the_sql_key_holds_all_that_the_query_needs(
    query: bytes, result_format: bytes, key: bytes
) -> None:
    """The statement made from the SQL key alone is the template with the whole key's parts."""
    table = MysqlTable.compile("t", query, result_format)
    sql_key = table.sql_key(key)
    if sql_key is not None:
        assert raw(table.statement(sql_key).pieces) == plainly_expanded(query, parts_of(key))


@given(BETWEEN_QUOTES, KEY, KEY)
def test_equal_sql_keys_have_equal_statements(query: bytes, key: bytes, other: bytes) -> None:
    """Two keys share an entry of the cache only if they send the same query."""
    table = MysqlTable.compile("t", query)
    sql_keys = (table.sql_key(key), table.sql_key(other))
    if None not in sql_keys and sql_keys[0] == sql_keys[1]:
        assert table.statement(sql_keys[0] or b"") == table.statement(sql_keys[1] or b"")


@given(TEMPLATE, KEY)
def test_an_identity_is_one(query: bytes, key: bytes) -> None:
    """A table that says it is an identity returns each key that it may be asked for."""
    table = MysqlTable.compile("t", query)
    if table.identity and key and b"\0" not in key:
        assert table.sql_key(key) is key


@given(TEMPLATE, TEMPLATE, KEY, VALUES)
def test_any_rows_can_be_expanded(
    query: bytes, result_format: bytes, key: bytes, values: list[bytes | None]
) -> None:
    """Whatever a database returns, the result is text or nothing, never empty; %s alone joins all values."""
    table = MysqlTable.compile("t", query, result_format)
    if table.sql_key(key) is None:
        return
    kept = table.values(ResultSet(("a",), tuple((value,) for value in values)))
    expanded = table.expand(key, kept)
    assert expanded is None or expanded
    if result_format in (b"%s", b"%s%%"):
        suffix = result_format[2:3]
        assert expanded == (b",".join([value + suffix for value in kept]) or None)


@given(st.binary(max_size=12))
def test_folding_twice_changes_nothing(key: bytes) -> None:
    """A folded key is folded."""
    folded = fold(key)
    assert folded is None or fold(folded) == folded
