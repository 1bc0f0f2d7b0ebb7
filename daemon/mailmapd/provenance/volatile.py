"""Volatile expressions, whose value changes though no row has: the time, variables, routines, unknown functions.

Functions are judged by a list of those that depend on their arguments alone. One that is not on it may be as harmless,
but nobody has proved it here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from sqlglot import exp

_NAME = re.compile(r"\w+")

_BY_ARGUMENTS_ALONE = frozenset(
    _NAME.findall(
        """
        ABS AND ASCII AVG BIN BIT_LENGTH CASE CAST CEIL CEILING CHAR CHAR_LENGTH CHARACTER_LENGTH CHARSET COALESCE
        CONCAT CONCAT_WS CONV CONVERT COUNT CRC32 ELT EXISTS FIELD FIND_IN_SET FLOOR FORMAT FROM_BASE64 GREATEST
        GROUP_CONCAT HEX IF IFNULL INSTR ISNULL JSON_ARRAY JSON_CONTAINS JSON_EXTRACT JSON_OBJECT JSON_UNQUOTE
        JSON_VALID JSON_VALUE LCASE LEAST LEFT LENGTH LIKE LOCATE LOWER LPAD LTRIM MAX MD5 MID MIN MOD NULLIF
        OCTET_LENGTH OR ORD POSITION POW POWER QUOTE REGEXP_I_LIKE REGEXP_INSTR REGEXP_LIKE REGEXP_REPLACE
        REGEXP_SUBSTR REPEAT REPLACE REVERSE RIGHT RLIKE ROUND RPAD RTRIM SHA SHA1 SHA2 SIGN SPACE STR_POSITION
        STRCMP SUBSTR SUBSTRING SUBSTRING_INDEX SUM TO_BASE64 TRIM TRUNCATE TRY_CAST UCASE UNHEX UPPER XOR
        """
    )
)

_WITHOUT_PARENTHESES = frozenset(
    _NAME.findall(
        """
        CURRENT_DATE CURRENT_TIME CURRENT_TIMESTAMP CURRENT_USER LOCALTIME LOCALTIMESTAMP
        UTC_DATE UTC_TIME UTC_TIMESTAMP
        """
    )
)


def volatile(tree: exp.Expr) -> Iterator[str]:
    """Yield, in a person's words, everything in a query that may change without a row."""
    for node in tree.walk():
        if isinstance(node, exp.Parameter | exp.SessionParameter):
            yield f"the variable {node.sql('mysql')}"
        elif isinstance(node, exp.Dot) and isinstance(node.expression, exp.Func):
            yield f"the stored function {node.this.name}.{_name(node.expression)}()"
        elif isinstance(node, exp.Version):
            yield "the past of a table"
        elif isinstance(node, exp.Func) and _name(node) not in _BY_ARGUMENTS_ALONE:
            yield f"the function {_name(node)}()"
        elif isinstance(node, exp.Column) and node.name.upper() in _WITHOUT_PARENTHESES:
            yield node.name.upper()
        elif isinstance(node, exp.Into | exp.Lock):
            yield "a clause that writes or locks"


def _name(node: exp.Func) -> str:
    return str(node.this).upper() if isinstance(node, exp.Anonymous) else node.sql_name().upper()
