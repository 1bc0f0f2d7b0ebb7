"""MySQL's and MariaDB's error numbers: who is at fault, the host, the query or the key.

mysql_table(5) takes a host down for any of them, so that one recipient which the server cannot
compare stops the mail of all. Here an error of the connection moves the lookup to another host, and
everything else stays where it belongs. A number that is not listed is a temporary failure of that
one query.

The server's own text often quotes the statement, and with it what a client sent. It is passed on
only where it can name nothing but the template's identifiers; else the number's meaning is given in
our words. See the manuals' "Server Error Message Reference" and "MariaDB Error Codes".
"""

from __future__ import annotations

import re
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

from mailmapd.errors import DatabaseError, DatabaseUnavailable, DataError, SchemaError

if TYPE_CHECKING:
    from mailmapd.databases.mysql.wire import ServerError
    from mailmapd.template.statement import Statement


class Blame(Enum):
    """The fault that an error number names: a host's, a table's or a key's."""

    CONNECTION = "connection"
    """This connection, or the host, can do nothing more: another may."""
    HOST = "host"
    """The host takes connections but no query: another may."""
    TIMEOUT = "timeout"
    """The query took too long; the host is fine."""
    DATA = "data"
    """This key's values are at fault."""
    SCHEMA = "schema"
    """The table's query is at fault."""
    UNKNOWN = "unknown"
    """Nothing is known; nothing is concluded."""


class Verdict(NamedTuple):
    """The exception for the caller, and who is to blame."""

    error: DatabaseError
    blame: Blame


_CONNECTION = {
    1040: "too many connections",
    1042: "the server cannot resolve our address",
    1043: "the login went wrong",
    1044: "access to the database is denied",
    1045: "the login is refused",
    1047: "the server does not take queries yet",  # a Galera node that has not joined
    1049: "the database does not exist",  # this connection's own; for another that the query names see `judge`
    1053: "the server shuts down",
    1077: "the server shuts down",
    1079: "the server shuts down",
    1080: "the server ends this connection",
    1129: "the server has blocked this host",
    1130: "this host may not connect",
    1152: "the server gave the connection up",
    1158: "the server could not read",
    1159: "the server waited too long for us",
    1160: "the server could not write",
    1161: "the server could not write in time",
    1184: "the server gave the connection up",
    1203: "too many connections of this user",
    1226: "the user's limit is used up",
    1251: "the login method is not supported",
    1698: "the login is refused",
    1820: "the user's password must be changed",
    1862: "the user's password has expired",
    1927: "the connection was killed",
    3032: "the server is offline",
    3118: "the account is locked",
    3159: "the server requires TLS",
    3168: "the server is not available",
    3169: "the connection was killed",
    4031: "the server closed an idle connection",
    4151: "the account is locked",
}

_TIMEOUT = {
    1205: "a lock was not granted in time",
    1213: "a deadlock was broken",
    1317: "the query was interrupted",
    1969: "the query took too long",
    3024: "the query took too long",
}

_DATA = {
    1048: "a value may not be NULL",
    1062: "a value exists already",
    1105: "the server gives no reason",
    1139: "a regular expression cannot be used",
    1153: "the query is longer than the server's max_allowed_packet",
    1172: "a procedure found more than one row",
    1210: "a function cannot work on the value",
    1242: "a subquery found more than one row",
    1264: "a number is out of range",
    1265: "a value was truncated",
    1267: "illegal mix of collations",
    1270: "illegal mix of collations",
    1271: "illegal mix of collations",
    1292: "a value cannot be converted",
    1300: "invalid character string",
    1301: "a result is longer than the server's max_allowed_packet",
    1329: "a procedure found no data",
    1365: "division by zero",
    1366: "incorrect string value",
    1367: "illegal value",
    1406: "a value is too long",
    1411: "a value cannot be converted",
    1425: "a number has too many digits",
    1436: "the query is nested too deeply",
    1441: "a date is out of range",
    1525: "a value cannot be converted",
    1644: "a procedure signals an error",
    1690: "a number is out of range",
    1977: "a character cannot be converted",
    3020: "a logarithm has no value",
    3037: "invalid geometry",
    3140: "invalid JSON",
    3141: "invalid JSON",
    3143: "invalid JSON path",
    3144: "invalid JSON",
    3146: "invalid JSON",
    3147: "invalid JSON",
    3156: "a JSON value cannot be converted",
    3157: "invalid JSON",
    3636: "a recursive query does not end",
    **dict.fromkeys(range(3684, 3701), "a regular expression cannot be used"),
    3852: "a regular expression cannot be used",
    3854: "a character cannot be converted",
    3887: "a regular expression cannot be used",
    3988: "a character cannot be converted",
    4007: "a regular expression cannot be used",
    4037: "invalid JSON",
    4038: "invalid JSON",
}

_SCHEMA = {
    1046: "no database is selected; set dbname",
    1051: "unknown table",
    1052: "a column name is ambiguous",
    1054: "unknown column",
    1055: "a column is not in GROUP BY (sql_mode ONLY_FULL_GROUP_BY)",
    1056: "cannot group",
    1064: "SQL syntax error",
    1065: "the query is empty",
    1066: "two tables have the same name or alias",
    1109: "unknown table",
    1111: "invalid use of a group function",
    1115: "unknown character set",
    1128: "a function does not exist",
    1140: "a column is not in GROUP BY",
    1142: "missing privilege on a table",
    1143: "missing privilege on a column",
    1146: "a table does not exist",
    1149: "SQL syntax error",
    1176: "an index does not exist",
    1191: "a full-text search has no index for its columns",
    1193: "unknown system variable",
    1221: "two parts of the query do not fit together",
    1222: "the parts of a UNION have different numbers of columns",
    1227: "missing privilege",
    1235: "the server does not support this yet",
    1241: "a comparison needs one column",
    1247: "a reference cannot be resolved",
    1248: "a derived table needs an alias",
    1250: "a table of a UNION cannot be used there",
    1253: "a collation does not fit its character set",
    1273: "unknown collation",
    1286: "unknown storage engine",
    1290: "the server runs with an option that forbids this statement",
    1305: "a procedure or function does not exist",
    1312: "a procedure cannot return a result set there",
    1318: "a procedure takes another number of arguments",
    1327: "undeclared variable",
    1345: "EXPLAIN may not look into a view; GRANT SELECT, SHOW VIEW on it and its tables",
    1347: "an object has the wrong type",
    1356: "a view refers to something that is missing or not allowed",
    1370: "missing privilege on a procedure",
    1414: "a procedure's OUT argument is not a variable",
    1449: "a procedure's or view's definer does not exist",
    1582: "a function takes another number of arguments",
    1583: "a function's arguments are wrong",
    1584: "a function's arguments are wrong",
    1630: "a function does not exist",
    1792: "the query or procedure writes (or makes a temporary table) in a read-only session; "
    "set read_only = false for this database",
    3065: "DISTINCT does not go with ORDER BY a column that is not selected",
    3066: "DISTINCT does not go with ORDER BY an aggregate that is not selected",
    3552: "a system table may not be read",
    3554: "a system table may not be read",
    3995: "a regular expression and its subject have character sets that do not go together",
    4078: "an operator does not take these types",
    4161: "unknown data type",
}

_UNKNOWN_DATABASE = 1049

_REFUSES_QUERIES = frozenset({1047, 1226, 3032, 3168})
"""Of the errors of a connection, those that any other query to the same host would meet, though it lets us log in."""

_NAMES_ACCOUNTS = frozenset({1044, 1045, 1049, 1129, 1130, 1203, 1226, 1698})
"""The server's text names the user, the host or the database: all from the configuration."""

_NAMES_OBJECTS = frozenset(
    {1051, 1054, 1109, 1128, 1142, 1143, 1146, 1176, 1193, 1305, 1318, 1356, 1370, 1449, 1582, 1630}
)
"""The server's text names tables and columns: the template's, unless the template puts a value where a name belongs."""


def judge(refusal: ServerError, statement: Statement, host: str) -> Verdict:
    """Return what an error packet means for a statement sent to `host`."""
    code = refusal.code
    if code == _UNKNOWN_DATABASE and _qualifies_a_table(refusal.text, statement):
        # MySQL's number for a database that the query names; MariaDB says that the table does not exist.
        text = _text(f"{host}: table {statement.table}", code, _CONNECTION[code], refusal.text)
        return Verdict(SchemaError(text, host=host), Blame.SCHEMA)
    if code in _CONNECTION:
        blame = Blame.HOST if code in _REFUSES_QUERIES else Blame.CONNECTION
        return Verdict(
            DatabaseUnavailable(_text(host, code, _CONNECTION[code], refusal.text), host=host),
            blame,
        )
    place = f"{host}: table {statement.table}"
    if code in _TIMEOUT:
        return Verdict(
            DatabaseUnavailable(_text(place, code, _TIMEOUT[code]), host=host), Blame.TIMEOUT
        )
    if code in _DATA:
        return Verdict(DataError(_text(place, code, _DATA[code]), host=host), Blame.DATA)
    if code in _SCHEMA and _may_be_a_value(refusal, statement):
        return Verdict(DataError(_text(place, code, _SCHEMA[code]), host=host), Blame.DATA)
    if code in _SCHEMA:
        detail = (
            refusal.text
            if code in _NAMES_OBJECTS and _is_of_template(refusal.text, statement)
            else ""
        )
        return Verdict(
            SchemaError(_text(place, code, _SCHEMA[code], detail), host=host), Blame.SCHEMA
        )
    return Verdict(DatabaseError(_text(place, code, "the query failed"), host=host), Blame.UNKNOWN)


def _text(place: str, code: int, meaning: str, detail: str = "") -> str:
    if detail and (code in _NAMES_ACCOUNTS or code in _NAMES_OBJECTS):
        return f"{place}: {detail} (error {code})"
    return f"{place}: {meaning} (error {code})"


def _qualifies_a_table(text: str, statement: Statement) -> bool:
    """Tell whether the name that the server quotes stands in the template before a dot."""
    name = re.search(r"'([^']+)'", text)
    return (
        name is not None
        and re.search(rf"(?<!\w){re.escape(name[1])}`?\s*\.", _literal(statement), re.IGNORECASE)
        is not None
    )


def _may_be_a_value(refusal: ServerError, statement: Statement) -> bool:
    """Tell whether it may be a value, not the template, that does not fit the schema: one that stands outside strings.

    `WHERE id = %n` for a user named root asks for a column of this name. Nobody's login may fail the table for all.
    """
    outside = statement.values_outside_strings()
    return (
        bool(outside)
        if refusal.code not in _NAMES_OBJECTS
        else any(value in refusal.text.lower() for value in outside)
    )


def _literal(statement: Statement) -> str:
    return b" ".join([piece for piece in statement.pieces if isinstance(piece, bytes)]).decode(
        "utf-8", "replace"
    )


def _is_of_template(text: str, statement: Statement) -> bool:
    """Tell whether every name that the server quotes stands in the template, or is an account."""
    literal = _literal(statement).lower()
    for name in re.findall(r"'([^']*)'(?!@)|`([^`]*)`", re.sub(r"'[^']*'@'[^']*'", "", text)):
        quoted = (name[0] or name[1]).lower()
        if quoted.rpartition(".")[2] not in literal:
            return False
    return True
