"""Row images: the wanted columns of changed rows, as raw bytes; everything between them is stepped over.

    rows    number of the table (6) flags(2) [extra data] columns(lenenc) present(bits) [present after(bits)] image …
    image   a bit for each present column that is NULL, then the values of the others

How to walk over an image depends only on which columns are present and which are NULL, so the steps are worked out once
for each such pattern and table.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from mailmapd.databases.mysql.binlog.columns import column_size
from mailmapd.databases.mysql.binlog.events import ABSENT, Change, Image, Kind, Value

STEPS_KEPT = 50_000
"""Steps that are remembered, of all tables; with more, they are worked out anew. One takes a hundred bytes."""

ROWS_AT_ONCE, STEPS_AT_ONCE = 8, 2048
"""Rows that are read at one go, and columns of them at most, if that is more than one row."""


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


class Plans:
    """The plans of all tables of a stream, each by its table's shape, the columns that are there and the NULLs."""

    def __init__(self) -> None:
        self._plans: dict[tuple[TableShape, int, bytes], _Plan] = {}
        self._steps = 0

    def clear(self) -> None:
        """Forget all of them: the shapes are others now."""
        self._plans.clear()
        self._steps = 0

    def of(self, shape: TableShape, present: int, nulls: bytes) -> _Plan:
        """Return the plan for images of a table with these columns and NULLs. Raises UnknownColumnType."""
        key = (shape, present, nulls)
        plan = self._plans.get(key)
        if plan is None:
            plan = shape.plan(present, int.from_bytes(nulls, "little"))
            cost = 4 + len(plan.steps) + len(plan.image) + len(nulls) // 16
            if self._steps + cost > STEPS_KEPT:
                self.clear()
            self._steps += cost
            self._plans[key] = plan
        return plan


class TableShape:
    """A table as its map describes it, and the columns of it that are read (`ordinals`, from 0)."""

    def __init__(
        self,
        schema: str,
        table: str,
        types: bytes,
        metadata: tuple[int, ...],
        ordinals: tuple[int, ...],
        *,
        plans: Plans,
    ) -> None:
        self.schema = schema
        self.table = table
        self._types = types
        self._metadata = metadata
        self._ordinals = ordinals
        self._plans = plans

    def changes(self, kind: Kind, present: tuple[int, int], data: bytes) -> Iterator[list[Change]]:
        """Yield the changes in the rows' bytes, some at a time; one that stands for all where no column is read.

        `present` are the columns of the images before and after, a bit for each. Raises BrokenRows and
        UnknownColumnType.
        """
        if max(present) >> len(self._types):
            raise BrokenRows("its rows have other columns than its description")
        if not data:  # an INSERT of nothing but defaults, with binlog_row_image = MINIMAL
            raise BrokenRows("its rows say nothing of any column")
        if not self._ordinals:  # that there are rows is all that matters
            yield [Change(None if kind is Kind.INSERT else (), None if kind is Kind.DELETE else ())]
            return
        columns = 1 + present[0].bit_count() + present[1].bit_count()
        most = max(1, min(ROWS_AT_ONCE, STEPS_AT_ONCE // columns))
        changes: list[Change] = []
        at, end = 0, len(data)
        while at < end:
            if len(changes) == most:
                yield changes
                changes = []
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
        yield changes

    def _image(self, present: int, data: bytes, at: int) -> tuple[Image, int]:
        size = (present.bit_count() + 7) // 8
        nulls = data[at : at + size]
        at += size
        plan = self._plans.of(self, present, nulls)
        image = plan.image.copy()
        for skip, length, fixed, slot in plan.steps:
            at += skip
            if length == 2:
                fixed = data[at] | data[at + 1] << 8  # noqa: PLW2901 (of this value)
                at += 2
            elif length:
                fixed = int.from_bytes(data[at : at + length], "little")  # noqa: PLW2901
                at += length
            if slot >= 0:
                image[slot] = data[at : at + fixed]
            at += fixed
        at += plan.tail
        if at > len(data):
            raise BrokenRows("a row ends early")
        return tuple(image), at

    def plan(self, present: int, nulls: int) -> _Plan:
        """Work out the steps for images with these columns and NULLs. Raises UnknownColumnType."""
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
