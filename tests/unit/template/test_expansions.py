from __future__ import annotations

import pytest

from mailmapd.errors import TemplateError
from mailmapd.template.expansions import parse


def test_text_and_expansions_are_told_apart() -> None:
    """Two percent signs are one, also next to an expansion; everything else is literal text."""
    assert parse(b"LIKE '%%%s%%' \\ $x '$.json' %1%9", "query") == (
        b"LIKE '%",
        "s",
        b"%' \\ $x '$.json' ",
        "1",
        "9",
    )
    assert parse(b"%%%%s", "query") == (b"%%s",)
    assert parse(b"", "query") == ()


@pytest.mark.parametrize(
    ("template", "text"),
    [
        (b"SELECT '%z'", "query: there is no expansion '%z'"),
        (b"SELECT '%0'", "'%0'"),
        (b"LIKE '% s'", "'% '"),
        (b"LIKE 'x%", "single '%' at the end"),
        (b"%%%", "single '%' at the end"),
        (b"%\n", r"'%\\x0a'"),
        (b"%\xc3\xa9", r"'%\\xc3'"),
        (b"a\0b", "NUL"),
    ],
)
def test_a_wrong_expansion_is_named(template: bytes, text: str) -> None:
    """What mysql_table(5) refuses is an error that shows the expansion and lists those that exist."""
    with pytest.raises(TemplateError, match=text):
        parse(template, "query")
