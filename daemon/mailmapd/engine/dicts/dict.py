"""Dicts: what Dovecot asks for passwords and users, from the same kind of tables as maps.

    shared/passdb/<key>          the password query's row for a user, as a JSON object
    shared/passdb-fresh/<key>    the same, after a password that did not fit it; see `mismatches`
    shared/userdb/<key>          the user query's
    shared/userdb/               iterated: every user name

`<key>` is laid out by `DictKey`. A key outside these namespaces is refused, never "not found":
Dovecot would take that for an unknown user.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from mailmapd.engine.dicts.definition import DictDefinition
from mailmapd.engine.dicts.iteration import Iteration
from mailmapd.engine.dicts.mismatches import Mismatches
from mailmapd.engine.table import Table
from mailmapd.errors import DataError
from mailmapd.model import NOT_FOUND, NotFound, PermFail, TempFail
from mailmapd.template.dovecot_key import DictKey
from mailmapd.template.dovecot_variables import name_in_24

_SHARED = b"shared/"
_FRESH = b"passdb-fresh"
PREFIX_SIZE = len("shared/passdb/")
"""Of the keys of either namespace."""


class DictTable(NamedTuple):
    """A table as a dict uses it."""

    table: Table
    definition: DictDefinition
    key: DictKey


class Question(NamedTuple):
    """The question of a lookup: one SQL key of one table."""

    table: Table
    sql_key: bytes


class MismatchQuestion(NamedTuple):
    """The question after a mismatch, see `Mismatches.ask`."""

    mismatches: Mismatches
    user: bytes
    sql_key: bytes
    original: tuple[tuple[bytes, bytes], ...]


Asked = Question | MismatchQuestion | NotFound | PermFail | TempFail
"""A question, or the answer to a lookup that asks no table."""


class Dict:
    """The namespaces of one configured dict; a namespace that it does not have is None."""

    def __init__(
        self,
        name: str,
        *,
        passdb: DictTable | None = None,
        userdb: DictTable | None = None,
        iteration: Iteration | None = None,
        mismatches: Mismatches | None = None,
    ) -> None:
        self.name = name
        self.passdb = passdb
        self.userdb = userdb
        self.iteration = iteration
        self.mismatches = mismatches
        self.avoided = 0
        self._namespaces = {b"passdb": passdb, b"userdb": userdb}
        if passdb is not None and mismatches is not None:
            self._namespaces[_FRESH] = passdb._replace(key=passdb.key.after_mismatch)

    def plain_tables(self) -> dict[bytes, Table]:
        """Return by the prefix of their keys the tables whose SQL key is what follows the prefix, whoever asks."""
        return {
            b"%b%b/" % (_SHARED, name): served.table
            for name, served in self._namespaces.items()
            if served is not None
            and name != _FRESH
            and not served.key.names
            and served.definition.query.identity
        }

    def mismatches_of(self, table: Table) -> Mismatches | None:
        """Return the questions after a mismatch about the table, if it is that of the passwords."""
        mismatches = self.mismatches
        return mismatches if mismatches is not None and mismatches.table is table else None

    def parse(self, key: bytes, user: bytes) -> Asked:
        """Return what a dict key asks; `user` is the name that came beside the key."""
        namespace, slash, rest = key.removeprefix(_SHARED).partition(b"/")
        if not slash or not key.startswith(_SHARED) or namespace not in self._namespaces:
            return PermFail(
                f"dict {self.name} has the keys shared/passdb/…, shared/passdb-fresh/… and "
                "shared/userdb/… only"
            )
        served = self._namespaces[namespace]
        if served is None:
            return self._missing(namespace)
        try:
            values = served.key.values(rest, user)
        except DataError as error:
            return TempFail(str(error))
        return self._question(namespace, served, values)

    def question(self, namespace: str, values: Mapping[str, bytes]) -> Asked:
        """Return what is asked about the variables' values.

        `namespace` is ``passdb``, ``passdb-fresh`` or ``userdb``, and `values` must hold ``user``.

        A variable of the query that is not among them is a temporary failure, because no value
        could be put in its place.
        """
        space = namespace.encode("utf-8", "surrogateescape")
        served = self._namespaces.get(space)
        if served is None:
            return self._missing(space)
        if not values["user"] or any(b"\0" in value for value in values.values()):
            return TempFail(f"dict {self.name}: the user name is empty or a value holds a NUL byte")
        missing = [name_in_24(name) for name in served.key.names if name not in values]
        if missing:
            return TempFail(
                f"dict {self.name}: the {namespace} query depends on {', '.join(missing)}, which "
                "the request does not give"
            )
        return self._question(space, served, values)

    def _question(
        self, namespace: bytes, served: DictTable, values: Mapping[str, bytes]
    ) -> Question | MismatchQuestion | NotFound:
        sql_key = served.definition.query.sql_key(values)
        if sql_key is None:
            return NOT_FOUND
        if namespace != _FRESH or self.mismatches is None:
            return Question(served.table, sql_key)
        original: list[tuple[bytes, bytes]] = []
        user, given = values["user"], values.get("orig_user") or values["user"]
        if given != user:
            # By default Dovecot lower-cases the name that the client gave before it asks
            for name in dict.fromkeys((given.lower(), given)):
                key = served.definition.query.sql_key({**values, "user": name})
                if key is not None and key != sql_key:
                    original.append((name, key))
        return MismatchQuestion(self.mismatches, user, sql_key, tuple(original))

    def _missing(self, namespace: bytes) -> PermFail:
        return PermFail(f"dict {self.name} has no {namespace.decode('utf-8', 'replace')}")
