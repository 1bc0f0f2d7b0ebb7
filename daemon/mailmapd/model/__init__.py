"""The words every other module speaks: queries, answers, rows."""

from __future__ import annotations

from mailmapd.model.answers import NOT_FOUND, Answer, Found, NotFound, PermFail, TempFail
from mailmapd.model.queries import DictCommit, DictIterate, DictLookup, DictQuery, MapQuery, Query
from mailmapd.model.rows import EMPTY, ResultSet, Row

__all__ = [
    "EMPTY",
    "NOT_FOUND",
    "Answer",
    "DictCommit",
    "DictIterate",
    "DictLookup",
    "DictQuery",
    "Found",
    "MapQuery",
    "NotFound",
    "PermFail",
    "Query",
    "ResultSet",
    "Row",
    "TempFail",
]
