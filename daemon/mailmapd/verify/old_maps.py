"""The old maps: Postfix's search done step by step over the real tables, in batches."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from mailmapd.config.schema import MapSection
from mailmapd.verify.old_search import Step, old_steps
from mailmapd.verify.postmap import LookupFailed, Postmap

_MEMORY_KEYS = 1_000_000
"""Partial keys that are remembered per map; most domains come back for every one of their users."""


@dataclass(frozen=True, slots=True)
class OldFound:
    """A value as the table has it, and the extension that was stripped from the key to find it."""

    value: bytes
    extension: bytes


OldAnswer = OldFound | LookupFailed | None


@dataclass(slots=True)
class OldMap:
    """One parameter's old tables (``mysql:/file``), in order, and its search."""

    section: MapSection
    tables: tuple[str, ...]
    lookups: int = 0
    _known: dict[tuple[str, bytes], bytes | LookupFailed | None] = field(default_factory=dict)

    def answers(self, postmap: Postmap, keys: Sequence[bytes]) -> dict[bytes, OldAnswer]:
        """Return the answer to each key: key by key over all tables, the first value or failure ends the search.

        Raises PostmapError.
        """
        if len(self._known) > _MEMORY_KEYS:
            self._known.clear()
        steps = {key: old_steps(self.section, key) for key in keys}
        answers: dict[bytes, OldAnswer] = dict.fromkeys(keys)
        pending = list(answers)
        for depth in range(max(map(len, steps.values()), default=0)):
            pending = [key for key in pending if depth < len(steps[key])]
            for table in self.tables:
                self._learn(postmap, table, {steps[key][depth].key for key in pending})
                pending = list(self._unanswered(pending, answers, table, steps, depth))
        return answers

    def _learn(self, postmap: Postmap, table: str, keys: Iterable[bytes]) -> None:
        new = sorted(key for key in keys if (table, key) not in self._known)
        self.lookups += len(new)
        found = postmap.ask(table, new, self.section.fold)
        self._known.update({(table, key): found.get(key) for key in new})

    def _unanswered(
        self,
        pending: Iterable[bytes],
        answers: dict[bytes, OldAnswer],
        table: str,
        steps: Mapping[bytes, Sequence[Step]],
        depth: int,
    ) -> Iterable[bytes]:
        for key in pending:
            step = steps[key][depth]
            known = self._known[table, step.key]
            if known is None:
                yield key
            else:
                answers[key] = (
                    known if isinstance(known, LookupFailed) else OldFound(known, step.extension)
                )
