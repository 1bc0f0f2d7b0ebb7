"""What queries read, by their text and a made-up schema."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from mailmapd.provenance.analysis import analyse, check_mode
from mailmapd.provenance.reading import CannotTell, Column, Part, Piece, Reading, Text
from mailmapd.template.dovecot_query import DovecotQuery
from mailmapd.template.mysql_table import MysqlTable

TABLES = {
    "alias": "address goto domain active:int",
    "mailbox": "username maildir domain quota:int lastlogin:datetime",
    "domain": "domain transport active:int",
    "odd": "address:varchar/latin7_lithuanian_ci wide:varchar/utf16_general_ci"
    " hu:varchar/utf8mb4_hu_0900_ai_ci lt:varchar/utf8mb4_lt_0900_ai_ci",
    "german": "name:varchar/latin1_german2_ci id:int",
    "general": "name:varchar/utf8mb4_general_ci other:varchar/utf8mb4_general_ci",
}


class Tables:
    """A schema; columns are text unless said otherwise."""

    views: Mapping[str, str] = {
        "v": "select `m`.`alias`.`address` AS `address`,`m`.`alias`.`goto` AS `goto` from `m`.`alias`",
        "unseen": "",
        "circle": "select * from circle",
    }

    def columns(self, schema: str, table: str) -> Mapping[str, Column] | None:
        """Return a table's columns."""
        if schema != "m" or table not in TABLES:
            return None
        found = {}
        for ordinal, text in enumerate(TABLES[table].split()):
            name, _, kind = text.partition(":")
            kind, _, collation = (kind or "varchar").partition("/")
            found[name] = Column(ordinal, kind, collation)
        return found

    def fault(self, schema: str, table: str) -> str:
        """Return why a table cannot be followed."""
        return f"{schema}.quick has the engine MEMORY" if table == "quick" else ""

    def view(self, schema: str, name: str) -> str | None:  # noqa: ARG002 (one schema has them all)
        """Return a view's query."""
        return self.views.get(name)


def read(query: str) -> list[Reading]:
    template = MysqlTable.compile("t", query.encode())
    return list(analyse(template.holes(), "m", Tables()).readings)


def shown(piece: Piece) -> str:
    match piece:
        case Part(name):
            return f"%{name}"
        case Text(text):
            return text
        case _:
            return "*"


def bound(reading: Reading) -> list[dict[str, str]]:
    """Return each alternative as column → pattern, parts as %x and what is unknown as *."""
    return [
        {binding.column: "".join(map(shown, binding.pattern)) for binding in alternative}
        for alternative in reading.alternatives
    ]


@pytest.mark.parametrize(
    ("query", "alternatives"),
    [
        ("SELECT goto FROM alias WHERE address = '%s' AND active = 1", [{"address": "%s"}]),
        ("SELECT goto FROM alias WHERE '%s' = address", [{"address": "%s"}]),
        ("SELECT goto FROM alias WHERE (address = '%u@%d')", [{"address": "%u@%d"}]),
        ("SELECT goto FROM alias WHERE address = CONCAT('%u', '@', '%d')", [{"address": "%u@%d"}]),
        (
            "SELECT goto FROM alias WHERE address = CONCAT_WS('@', '%u', '%d')",
            [{"address": "%u@%d"}],
        ),
        ("SELECT goto FROM alias WHERE address = CONCAT_WS('@', '%u', domain)", [{}]),
        ("SELECT goto FROM alias WHERE address = CONCAT_WS(domain, '%u', '%d')", [{}]),
        ("SELECT goto FROM alias WHERE address = LOWER('%s')", [{"address": "%s"}]),
        ("SELECT goto FROM alias WHERE address = '%s '", [{"address": "%s"}]),
        ("SELECT goto FROM alias WHERE address = CONCAT('x ', '%u')", [{"address": "x*%u"}]),
        (
            "SELECT goto FROM alias WHERE address = '%s' AND domain = 'é' AND goto = 'ü'",
            [{"address": "%s", "domain": "*", "goto": "*"}],
        ),
        ("SELECT goto FROM alias WHERE LOWER(address) = '%s'", [{}]),
        (
            "SELECT goto FROM alias WHERE address IN ('%s', '@%d')",
            [{"address": "%s"}, {"address": "@%d"}],
        ),
        (
            "SELECT goto FROM alias WHERE address = '%s' OR domain = '%d'",
            [{"address": "%s"}, {"domain": "%d"}],
        ),
        ("SELECT goto FROM alias WHERE address = '%s' OR active = 1", [{"address": "%s"}, {}]),
        ("SELECT goto FROM alias WHERE NOT address = '%s'", [{}]),
        ("SELECT goto FROM alias WHERE address <> '%s'", [{}]),
        ("SELECT goto FROM alias WHERE address LIKE '%s'", [{}]),
        ("SELECT goto FROM alias WHERE active = '%s'", [{}]),
        ("SELECT goto FROM alias WHERE active = %s", [{}]),
        ("SELECT address FROM odd WHERE address = '%s'", [{}]),
        ("SELECT address FROM odd WHERE wide = '%s'", [{}]),
        ("SELECT address FROM odd WHERE hu = '%s' AND lt = '%s'", [{}]),
        ("SELECT address FROM odd WHERE address = CONCAT('%u', hu)", [{}]),
        (
            "SELECT goto FROM alias WHERE address = '%s' GROUP BY goto HAVING COUNT(*) > 1 LIMIT 1",
            [{"address": "%s"}],
        ),
    ],
)
def test_conditions(query: str, alternatives: list[dict[str, str]]) -> None:
    """A condition binds a column to the key only if every row that it lets through has that value."""
    [reading] = read(query)
    assert bound(reading) == alternatives


def test_joins() -> None:
    """What is equal to something that equals the key equals the key; an outer join's ON binds nothing."""
    inner = read(
        "SELECT maildir FROM mailbox m JOIN domain d ON m.domain = d.domain WHERE d.domain = '%d'"
    )
    assert [bound(reading) for reading in inner] == [[{"domain": "%d"}], [{"domain": "%d"}]]
    outer = read(
        "SELECT maildir FROM mailbox m LEFT JOIN domain d ON d.domain = '%d' WHERE m.username = '%s'"
    )
    assert {reading.table: bound(reading) for reading in outer} == {
        "mailbox": [{"username": "%s"}],
        "domain": [{}],
    }


@pytest.mark.parametrize(
    ("condition", "general"),
    [
        ("german.id = '%s' AND general.name = german.id", {}),
        ("german.id = '%s' AND general.name IN (german.id, 'x')", {}),
        ("german.id = '%u' AND general.name = CONCAT(german.id, '@')", {"name": "*@"}),
        ("german.name = '%s' AND general.name = german.name", {}),
        ("general.other = '%s' AND general.name = general.other", {"name": "%s", "other": "%s"}),
        ("german.name = '%s' AND general.name = CONCAT('%u', german.name)", {}),
    ],
)
def test_what_is_equal_in_between(condition: str, general: dict[str, str]) -> None:
    """A number equals more than one text, and so does a text in another collation: what equals it is not the key."""
    readings = read(f"SELECT general.name FROM german, general WHERE {condition}")
    assert {reading.table: bound(reading) for reading in readings}["general"] == [general]


def test_alias_domains() -> None:
    """A column inside a pattern is the part of the key that it equals, or unknown: then only the
    rest of it is known.
    """
    readings = read(
        "SELECT a.goto FROM alias a, domain d WHERE d.domain = '%d' "
        "AND a.address = CONCAT('%u', '@', d.transport) AND a.active = 1"
    )
    assert {reading.table: bound(reading) for reading in readings} == {
        "alias": [{"address": "%u@*"}],
        "domain": [{"domain": "%d"}],
    }


def test_reverse_queries() -> None:
    """Where no condition names the key, a query of the other tables says which keys a row matters to."""
    readings = read(
        "SELECT a.goto FROM alias a, domain d WHERE a.address = '%s' AND a.domain = d.domain "
        "AND d.active = 1"
    )
    [domain] = [reading for reading in readings if reading.table == "domain"]
    assert domain.grade == "reverse"
    assert domain.reverse is not None
    assert domain.reverse.parts == ("s",)
    text = "".join(
        piece if isinstance(piece, str) else f"<{piece.column}>" for piece in domain.reverse.pieces
    )
    assert text == (
        "SELECT DISTINCT `a`.`address` FROM `m`.`alias` AS `a` WHERE (`a`.domain = <domain>)"
    )


def test_reverse_queries_by_tables_that_name_the_key() -> None:
    """A reverse query asks no table whose own rows do not name the key: such a row may have changed as well."""
    readings = read(
        "SELECT a.goto FROM alias a, domain d, mailbox m WHERE a.address = '%s'"
        " AND a.domain = d.domain AND m.domain = d.domain AND m.domain = a.goto AND d.active = m.quota"
    )
    [domain] = [reading for reading in readings if reading.table == "domain"]
    assert domain.reverse is not None
    assert "mailbox" not in str(domain.reverse)
    assert "active" not in str(domain.reverse)
    chain = read(
        "SELECT a.goto FROM alias a, domain d, mailbox m WHERE a.address = '%s'"
        " AND a.domain = d.domain AND d.transport = m.domain"
    )
    assert {reading.table: reading.grade for reading in chain} == {
        "alias": "key",
        "domain": "reverse",
        "mailbox": "table",
    }


def test_no_reverse_query_for_outer_joins() -> None:
    """A row that is joined with nothing may appear when another one goes, wherever the outer join stands."""
    tables = "alias a LEFT JOIN domain d ON d.domain = a.domain"
    for joined in (
        tables,
        f"({tables})",
        "alias a JOIN domain d JOIN mailbox m RIGHT JOIN domain e ON 1 ON 1 ON 1",
    ):
        readings = read(
            f"SELECT a.goto FROM {joined} WHERE a.address = '%s' AND (d.active = a.active OR d.active IS NULL)"
        )
        assert {reading.table: reading.grade for reading in readings}["domain"] == "table"


def test_no_reverse_query_for_a_number() -> None:
    """A column that equals more than one key does not say which they are."""
    readings = read("SELECT g.name FROM german g, domain d WHERE g.id = '%s' AND g.name = d.domain")
    assert {reading.table: reading.grade for reading in readings} == {
        "german": "table",
        "domain": "table",
    }


def test_no_cross_joins() -> None:
    """A table that nothing joins with the changed one makes no reverse query: every answer is dropped instead."""
    readings = read("SELECT a.goto FROM alias a, domain d WHERE a.address = '%s' AND d.active = 1")
    assert {reading.table: reading.grade for reading in readings} == {
        "alias": "key",
        "domain": "table",
    }


def test_subqueries_and_unions() -> None:
    """Every SELECT is judged by its own conditions."""
    readings = read(
        "SELECT goto FROM alias WHERE address = '%s' UNION SELECT username FROM mailbox "
        "WHERE username = '%s' AND domain IN (SELECT domain FROM domain WHERE active = 1)"
    )
    assert {reading.table: reading.grade for reading in readings} == {
        "alias": "key",
        "mailbox": "key",
        "domain": "table",
    }


def test_columns_that_matter() -> None:
    """Only columns that the query mentions count; with a star or a variable for a name, all do."""
    [reading] = read("SELECT maildir FROM mailbox WHERE username = '%s'")
    assert reading.columns == {"maildir", "username"}
    [everything] = read("SELECT * FROM mailbox WHERE username = '%s'")
    assert everything.columns == {"username", "maildir", "domain", "quota", "lastlogin"}
    [counted] = read("SELECT COUNT(*) FROM mailbox WHERE username = '%s'")
    assert counted.columns == {"username"}
    [of_partition] = read("SELECT maildir FROM mailbox PARTITION (p0) WHERE username = '%s'")
    assert of_partition.columns == everything.columns
    query = DovecotQuery.compile(
        "t", "SELECT maildir FROM mailbox WHERE username = '%u' AND %s = 1"
    )
    [named] = analyse(query.holes(), "m", Tables()).readings
    assert named.columns == {"username", "maildir", "domain", "quota", "lastlogin"}


def test_views() -> None:
    """A view is what its own query reads, or not known where the account may not see that."""
    [reading] = read("SELECT goto FROM v WHERE address = '%s'")
    assert (reading.schema, reading.table) == ("m", "alias")
    with pytest.raises(CannotTell, match="GRANT SHOW VIEW"):
        read("SELECT goto FROM unseen WHERE address = '%s'")
    with pytest.raises(CannotTell, match="view of views"):
        read("SELECT goto FROM circle WHERE address = '%s'")


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        (
            "SELECT goto FROM alias WHERE address = '%s' AND active > UNIX_TIMESTAMP()",
            "UNIX_TIMESTAMP",
        ),
        ("SELECT goto FROM alias WHERE address = '%s' AND NOW() > 1", "NOW"),
        ("SELECT IF(CURRENT_DATE > '2020-01-01', goto, 1) FROM alias", "CURRENT_DATE"),
        ("SELECT goto FROM alias WHERE address = '%s' ORDER BY RAND()", "RAND"),
        ("SELECT @x FROM alias WHERE address = '%s'", "the variable @x"),
        ("SELECT @@version FROM alias WHERE address = '%s'", "variable"),
        ("SELECT goto_of('%s') FROM alias", "GOTO_OF"),
        ("SELECT AES_DECRYPT(goto, 'k') FROM alias WHERE address = '%s'", "function"),
        ("CALL p('%s')", "not one SELECT"),
        ("SELECT 1; SELECT 2", "not one SELECT"),
        ("SELECT goto FROM nowhere WHERE address = '%s'", r"m\.nowhere"),
        ("SELECT goto FROM alias WHERE (address = '%s'", "cannot be parsed"),
        ("WITH x AS (SELECT 1) SELECT * FROM x, alias", "WITH"),
        ("SELECT goto FROM alias WHERE address = '%s' /*!50000 OR active = 1 */", "read as SQL"),
        ("SELECT goto FROM alias WHERE address = '%s' /*M! OR active = 1 */", "read as SQL"),
        ("SELECT goto FROM alias WHERE address = '%s' FOR UPDATE", "locks"),
        ("SELECT m.lower(goto) FROM alias WHERE address = '%s'", r"stored function m\.LOWER\(\)"),
        ("SELECT goto FROM alias FOR SYSTEM_TIME ALL WHERE address = '%s'", "the past of a table"),
    ],
)
def test_what_cannot_be_followed(query: str, reason: str) -> None:
    """What may change without a row, or is not understood, is refused with its reason."""
    with pytest.raises(CannotTell, match=reason):
        read(query)


@pytest.mark.parametrize(
    ("query", "mode"),
    [
        ('SELECT "goto" FROM alias', "ANSI_QUOTES"),
        ("SELECT goto FROM alias WHERE goto = '\\\\'", "NO_BACKSLASH_ESCAPES"),
        ("SELECT goto FROM alias WHERE goto = domain || 'x'", "PIPES_AS_CONCAT"),
    ],
)
def test_sql_modes(query: str, mode: str) -> None:
    """A query that means something else in the server's SQL mode is refused there."""
    holes = MysqlTable.compile("t", query.encode()).holes()
    check_mode(holes, "STRICT_TRANS_TABLES,NO_ZERO_DATE")
    with pytest.raises(CannotTell, match=f"sql_mode {mode}"):
        check_mode(holes, f"STRICT_TRANS_TABLES,{mode}")
