"""Which pairs of answers are the same to Postfix."""

from __future__ import annotations

import pytest

from mailmapd.config.schema import MapSection
from mailmapd.model import NOT_FOUND, Answer, Found, TempFail
from mailmapd.verify.comparison import Verdict, compare
from mailmapd.verify.old_maps import OldAnswer, OldFound
from mailmapd.verify.postmap import LookupFailed

PLAIN = MapSection(tables=("a",), search="address")
ALIASES = MapSection(tables=("a",), search="address", propagate_unmatched_extensions=True)
KEPT = MapSection(tables=("a",), search="address", propagate_unmatched_extensions=False)


@pytest.mark.parametrize(
    ("section", "old", "new", "verdict"),
    [
        (PLAIN, None, NOT_FOUND, Verdict.SAME),
        (PLAIN, OldFound(b"x", b""), Found(b"x"), Verdict.SAME),
        (PLAIN, OldFound(b"x", b"+e"), Found(b"x"), Verdict.SAME),
        (PLAIN, OldFound(b"a,b", b""), Found(b"b,a"), Verdict.REORDERED),
        (PLAIN, OldFound(b"x", b""), Found(b"y"), Verdict.DIFFERENT),
        (PLAIN, OldFound(b"x", b""), NOT_FOUND, Verdict.DIFFERENT),
        (PLAIN, None, Found(b"x"), Verdict.DIFFERENT),
        (PLAIN, None, TempFail(""), Verdict.DIFFERENT),
        (PLAIN, LookupFailed("x"), TempFail(""), Verdict.SAME),
        (PLAIN, LookupFailed("x"), NOT_FOUND, Verdict.RESCUED),
        (
            ALIASES,
            OldFound(b"a@x.test, b@x.test", b"+e"),
            Found(b"a+e@x.test,b+e@x.test"),
            Verdict.SAME,
        ),
        (
            ALIASES,
            OldFound(b"a@x.test b@x.test", b"+e"),
            Found(b"b+e@x.test a+e@x.test"),
            Verdict.REORDERED,
        ),
        (ALIASES, OldFound(b"a@x.test", b"+e"), Found(b"a@x.test"), Verdict.DIFFERENT),
        (ALIASES, OldFound(b"@other.test", b"+e"), Found(b"@other.test"), Verdict.SAME),
        (ALIASES, OldFound(b'"a b"@x.test', b"+e"), Found(b'"a b+e"@x.test'), Verdict.SAME),
        (KEPT, OldFound(b"a@x.test", b"+e"), Found(b"a@x.test"), Verdict.SAME),
        (KEPT, OldFound(b"@other.test", b"+e"), Found(b"user@other.test"), Verdict.SAME),
        (KEPT, OldFound(b"@other.test", b"+e"), Found(b"@other.test"), Verdict.DIFFERENT),
    ],
)
def test_answers_compare_as_postfix_would_use_them(
    section: MapSection, old: OldAnswer, new: Answer, verdict: Verdict
) -> None:
    """Recipients are compared after extensions went on, everything else as text.

    An error is never the same as an answer.
    """
    assert compare(section, b"user+e@example.com", old, new) is verdict
