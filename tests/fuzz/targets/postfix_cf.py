"""Any bytes as a .cf file: a table or faults.

And whatever table it is, no key leaves the quotes that the template puts around it.
"""

from __future__ import annotations

from mailmapd.errors import ConfigError, DataError, TemplateError
from mailmapd.formats.postfix_cf import read_postfix_cf
from mailmapd.plan.databases import cf_settings, check_settings
from mailmapd.template.mysql_table import MysqlTable
from mailmapd.template.sql_quoting import make_quote
from mailmapd.template.statement import Value
from support.scratch_file import ScratchFile

SEEDS = (
    (
        b"hosts = unix:/run/mysqld/mysqld.sock\nuser=mail\npassword=x\ndbname=mail\nquery = SELECT "
        b"goto FROM alias WHERE address = '%s'\n"
    ),
    (
        b"dbname = m\nquery = SELECT '%u', '%d'\n  FROM t WHERE a = '%1.%2'\nresult_format = "
        b"lmtp:%d:%U\nexpansion_limit = 3\ndomain = a.b\n"
    ),
    (
        b"dbname=m\ntable = t\nselect_field = f\nwhere_field = w\nadditional_conditions = and x = "
        b"'%%'\nrequire_result_set = no\n"
    ),
    b"dbpath = /var/lib/mail.sqlite\nquery = SELECT a FROM t WHERE k = '%S'\n",
    (
        b"dbname = m\nquery = SELECT 1\ntls_verify_cert = yes\ntls_CAfile = /x\noption_file = "
        b"/y\nhosts = inet:db:3306 [::1]:1\n"
    ),
    b"dbname = m\nquery = SELECT a FROM t WHERE k = \"%s\" AND l = '%u'\n",
    b"# comment\n = 1\nname\n\tgoes on\n\0=\0\n",
)
TOKENS = (
    *(b"query = ", b"dbname = ", b"dbpath = ", b"result_format = ", b"domain = ", b"hosts = "),
    *(b"%s", b"%u", b"%d", b"%1", b"%%", b"\n ", b"#"),
)
KEYS = (b"user+ext@sub.example.com", b"@example.com", b"user", b"a'\\\"`@b", "ü@ü".encode())

_FILE = ScratchFile("table.cf")
_DOUBLING = make_quote("utf8mb4", no_backslash_escapes=True)


def _mark(raw: bytes) -> bytes:
    return b"<%b>" % raw


def _marked(value: Value) -> bytes:
    text = _mark(value.raw)
    return text.replace(b'\\"', b'""') if value.double_quoted else text


def check(data: bytes) -> None:
    try:
        cf = read_postfix_cf(_FILE.holding(data))
        check_settings(cf_settings(cf))
        table = MysqlTable.compile(
            "t",
            cf.query,
            cf.result_format,
            [name for name in cf.domain if "/" not in name],  # those with a slash are files to read
            expansion_limit=cf.expansion_limit,
            require_result_set=cf.require_result_set,
            first_column_only=cf.sqlite,
        )
    except (ConfigError, TemplateError, ValueError):
        return
    for key in KEYS:
        sql_key = table.sql_key(key)
        if sql_key is None:
            continue
        try:
            statement = table.statement(sql_key)
        except DataError:
            continue  # a variable outside strings, and a value that cannot stand there
        assert statement.render(_mark) == b"".join(
            _marked(piece) if isinstance(piece, Value) else piece for piece in statement.pieces
        )
        for value in [piece for piece in statement.pieces if isinstance(piece, Value)]:
            assert value.raw in key
            quote = b'"' if value.double_quoted else b"'"
            assert quote not in value.escaped(_DOUBLING).replace(quote * 2, b"")
