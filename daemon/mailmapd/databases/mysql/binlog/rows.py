"""Row images: the wanted columns of changed rows, as raw bytes; everything between them is stepped over.

    rows    number of the table (6) flags(2) [extra data] columns(lenenc) present(bits) [present after(bits)] image …
    image   a bit for each present column that is NULL, then the values of the others

How to walk over an image depends only on which columns are present and which are NULL, so the steps are worked out once
for each such pattern and table.
"""

from __future__ import annotations

from typing import NamedTuple

from mailmapd.databases.mysql.binlog.columns import column_size
from mailmapd.databases.mysql.binlog.events import ABSENT, Change, Image, Kind, Value

_PLANS_KEPT = 500
"""Patterns of presence and NULLs whose steps are remembered, for each table."""


class BrokenRows(Exception):
    """The rows do not fit what their table map says; the text says how."""


class _Step(NamedTuple):
    """Skip bytes; then comes a value for a slot (or -1): `fixed` bytes, or behind a length of `length` bytes."""

    skip: int
    length: int
    fixed: int
    slot: int


class _Plan(NamedTuple):
    """An image without its values, the steps that fill it, and the bytes behind the last of them."""

    image: list[Value]
    steps: tuple[_Step, ...]
    tail: int


class TableShape:
    """A table as its map describes it, and the columns of it that are read (`ordinals`, from 0)."""

    def __init__(
        self,
        schema: str,
        table: str,
        types: bytes,
        metadata: tuple[int, ...],
        ordinals: tuple[int, ...],
    ) -> None:
        self.schema = schema
        self.table = table
        self._types = types
        self._metadata = metadata
        self._ordinals = ordinals
        self._plans: dict[tuple[int, bytes], _Plan] = {}

    def changes(self, kind: Kind, present: tuple[int, int], data: bytes) -> list[Change]:
        """Return the changes in the rows' bytes.

        `present` are the columns of the images before and after, a bit for each. Raises BrokenRows and
        UnknownColumnType.
        """
        if max(present) >> len(self._types):
            raise BrokenRows("its rows have other columns than its description")
        if not data:  # an INSERT of nothing but defaults, with binlog_row_image = MINIMAL
            raise BrokenRows("its rows say nothing of any column")
        changes = []
        at, end = 0, len(data)
        while at < end:
            begin = at
            first, at = self._image(present[0], data, at)
            if kind is Kind.INSERT:
                changes.append(Change(None, first))
            elif kind is Kind.DELETE:
                changes.append(Change(first, None))
            else:
                after, at = self._image(present[1], data, at)
                changes.append(Change(first, after))
            if at == begin:
                raise BrokenRows("a row takes no bytes")
        return changes

    def _image(self, present: int, data: bytes, at: int) -> tuple[Image, int]:
        size = (present.bit_count() + 7) // 8
        nulls = data[at : at + size]
        at += size
        key = (present, nulls)
        plan = self._plans.get(key)
        if plan is None:
            if len(self._plans) >= _PLANS_KEPT:
                self._plans.clear()
            plan = self._plans[key] = self._plan(present, int.from_bytes(nulls, "little"))
        image = plan.image.copy()
        for skip, length, fixed, slot in plan.steps:
            at += skip
            if length:
                fixed = int.from_bytes(data[at : at + length], "little")  # noqa: PLW2901 (of this value)
                at += length
            if slot >= 0:
                image[slot] = data[at : at + fixed]
            at += fixed
        at += plan.tail
        if at > len(data):
            raise BrokenRows("a row ends early")
        return tuple(image), at

    def _plan(self, present: int, nulls: int) -> _Plan:
        slots = {ordinal: slot for slot, ordinal in enumerate(self._ordinals)}
        image: list[Value] = [ABSENT] * len(slots)
        steps: list[_Step] = []
        skip = 0
        for ordinal, kind in enumerate(self._types):
            if not present >> ordinal & 1:
                continue
            null, nulls = nulls & 1, nulls >> 1
            slot = slots.get(ordinal, -1)
            if null:
                if slot >= 0:
                    image[slot] = None
                continue
            fixed, length = column_size(kind, self._metadata[ordinal])
            if length or slot >= 0:
                steps.append(_Step(skip, length, fixed, slot))
                skip = 0
            else:
                skip += fixed
        return _Plan(image, tuple(steps), skip)
