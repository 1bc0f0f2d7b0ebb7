"""The layout of dict keys: how the variables of a query travel in the key that Dovecot asks for, and back.

    passdb/%u                          the query depends on the user only
    passdb/%u/%Ls/%Lc   and on bounded variables, which hold no slash: parsed from the right
    passdb/%u/%s/%{local_name}         and on one free variable, last

Dovecot expands `key = …` of its dict settings without escaping, and a user name may hold ``/``.
Bounded values cannot, so splitting from the right is exact. A free value may hold ``/`` as well;
then the user name that Dovecot 2.3.17 and later sends beside the key tells where the user ends, and
without it a key with more slashes than its layout is refused. Two free variables cannot be told
apart, so such a query is refused when it is compiled.

    passdb-fresh/%u/%s/%{orig_user}    the question after a mismatch, see `after_mismatch`

A variable that every use lower-cases first is lower-cased by Dovecot already (%Ls), which keeps
Dovecot's own auth cache small.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from mailmapd.errors import DataError, TemplateError
from mailmapd.template.dovecot_query import DovecotQuery
from mailmapd.template.dovecot_variables import BOUNDED, FREE, SHORT_NAMES

_LETTERS = {name: letter for letter, name in SHORT_NAMES.items()}


@dataclass(frozen=True, slots=True)
class DictKey:
    """The layout for one namespace (`passdb` or `userdb`) of a dict.

    `bounded` are the variables behind the user name, in order; `free` the one that may hold
    anything; `lowered` those Dovecot lower-cases.
    """

    namespace: str
    bounded: tuple[str, ...] = ()
    free: str = ""
    lowered: frozenset[str] = frozenset()

    @classmethod
    def of(cls, namespace: str, query: DovecotQuery) -> DictKey:
        """Return the layout that carries every variable of the query. Raises TemplateError when no layout can."""
        sources = query.sources - {"user"}
        free = [name for name in FREE if name in sources]
        if len(free) > 1:
            names = " and ".join(f"%{{{name}}}" for name in free)
            raise TemplateError(
                f"{names} may both hold any character, so they cannot be told apart in one dict key. Use one of them"
            )
        lowered = {
            name
            for name in sources
            if all(use.modifiers.startswith("L") for use in query.uses if use.name == name)
        }
        bounded = tuple(name for name in BOUNDED if name in sources)
        return cls(namespace, bounded, free[0] if free else "", frozenset(lowered))

    @property
    def after_mismatch(self) -> DictKey:
        """Return the layout of the question that Dovecot puts after a mismatch.

        A field of the first answer may have renamed the user, and Dovecot goes on with the new name. So the key carries
        the name that the client gave as well, where no other free variable takes that place.
        """
        return replace(self, namespace=f"{self.namespace}-fresh", free=self.free or "orig_user")

    @property
    def names(self) -> tuple[str, ...]:
        """Return the variables besides the user, in the order of the key."""
        return (*self.bounded, self.free) if self.free else self.bounded

    @property
    def template(self) -> str:
        """Return the `key = …` of Dovecot's dict settings."""
        return "/".join([self.namespace, "%u", *(self._written(name) for name in self.names)])

    def _written(self, name: str) -> str:
        lower = "L" if name in self.lowered else ""
        return f"%{lower}{_LETTERS[name]}" if name in _LETTERS else f"%{lower}{{{name}}}"

    def values(self, rest: bytes, user: bytes) -> dict[str, bytes]:
        """Return the variables' values.

        `rest` is the key behind ``shared/passdb/``, `user` what Dovecot sent beside the key (empty
        when it did not). Raises DataError when the key does not fit, because another layout in
        Dovecot's settings would mean other values.
        """
        if self.free:
            if not user and rest.count(b"/") == len(self.names):
                user = rest.partition(b"/")[0]
            if not user or not rest.startswith(user + b"/"):
                raise DataError(
                    f"{self.namespace}: a key with this name needs Dovecot 2.3.17 or later, which "
                    "sends the name beside it"
                )
            fields = rest[len(user) + 1 :].split(b"/", len(self.bounded))
        elif self.bounded:
            user, *fields = rest.rsplit(b"/", len(self.bounded))
        else:
            user, fields = rest, []
        names = self.names
        if len(fields) != len(names) or not user or b"\0" in rest:
            raise DataError(
                f"{self.namespace}: the key does not fit `key = {self.template}` (see `mailmapd snippets dovecot-2.3`)"
            )
        return {"user": user, **dict(zip(names, fields, strict=True))}
