"""Lists in which maps of mailmapd take the place of ``mysql:`` tables, without changing one answer.

Postfix walks a list of tables key by key: the full address in every table, then the address without
its extension in every table, and so on. It asks ``mysql:`` and ``hash:`` (fixed strings) for all
keys, ``socketmap:`` and ``pcre:`` (patterns) for the full key only. A socketmap that does the
search itself answers all keys at its own place in the list, so that its ``@domain`` comes before a
``hash:`` table's address without extension. That is the same only when

* every table of the list is ``mysql:``, or
* the parameter has no partial keys (EXACT), or
* all others stand before the ``mysql:`` tables and are patterns, which are asked for nothing after the full key.

In every other list the daemon's map must be asked key by key, as the table was.
``unionmap:{texthash:/dev/null,socketmap:…}`` makes Postfix do so: a union takes its kind from its
first member, and the first is an empty table of fixed strings. Then Postfix searches, strips and
propagates extensions as before, and the daemon only answers exact keys.

Lists of patterns (relay_domains, mynetworks) are walked member by member instead, so that any of
them can be replaced on its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

from mailmapd.formats.map_list import Member, bundle_content, split_list
from mailmapd.importers.postfix.finder import Setting, Token
from mailmapd.importers.postfix.parameters import IMPLIED_RESTRICTION, RESTRICTION_KEYS, Form, Keys


@dataclass(frozen=True, slots=True)
class MapNeed:
    """A map that must exist: the .cf files of its tables in order, and the keys it is asked for.

    `owner` is the parameter or restriction that it stands for.
    """

    owner: str
    files: tuple[str, ...]
    keys: Keys


NameMap = Callable[[MapNeed], str]
"""Returns the ``socketmap:…`` table that answers for a need."""


@dataclass(slots=True)
class Split:
    """The new value of a parameter: `members` as they will be written, and what is worth knowing about it."""

    members: list[str]
    moved: list[str] = field(default_factory=list)
    stays: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


class Unmovable(Exception):
    """A use of MySQL that cannot be moved; the text says why and what to do."""


def one_by_one(table: str) -> str:
    """Return a table that answers as `table`, but that Postfix asks for every partial key."""
    return f"unionmap:{{texthash:/dev/null,{table}}}"


def split_setting(setting: Setting, name_map: NameMap, *, local_domains_known: bool) -> Split:
    """Return what the parameter's value becomes. Raises Unmovable."""
    replaced: dict[int, str | None] = {}
    splitter = _Splitter(setting, name_map, local_domains_known)
    split = Split([])
    match setting.parameter.form:
        case Form.MAPS:
            splitter.maps(replaced, split)
        case Form.PATTERNS:
            splitter.patterns(replaced)
        case Form.RESTRICTIONS:
            splitter.restrictions(replaced)
    split.members = list(_written(setting, replaced))
    split.moved = [token.text for index, token in enumerate(setting.tokens) if index in replaced]
    split.stays = [
        token.text
        for index, token in enumerate(setting.tokens)
        if index not in replaced and token.member.is_table
    ]
    return split


def _written(setting: Setting, replaced: dict[int, str | None]) -> Iterator[str]:
    """Yield the members of the new value: those without a change as they were written, ``$name`` included.

    What was expanded is written so that it expands to itself: its dollar signs are doubled.
    """
    for origin, tokens in groupby(enumerate(setting.tokens), key=lambda pair: pair[1].origin):
        group = list(tokens)
        if not any(index in replaced for index, _ in group):
            yield setting.written[origin]
            continue
        for index, token in group:
            text = replaced.get(index, token.text)
            if text is not None:
                yield text.replace("$", "$$")


@dataclass(frozen=True, slots=True)
class _Splitter:
    setting: Setting
    name_map: NameMap
    local_domains_known: bool

    def maps(self, replaced: dict[int, str | None], split: Split) -> None:
        """Replace each run of neighbouring ``mysql:`` tables of a list of maps."""
        tokens = self.setting.tokens
        keys = self.setting.parameter.keys
        self._refuse_braces()
        reason = "" if keys is Keys.EXACT else self._why_one_by_one(tokens)
        for run in _runs(tokens):
            self._replace(replaced, run, keys, bool(reason))
        for index, token in enumerate(tokens):
            if index not in replaced and token.mentions_mysql:
                replaced[index] = self._bundle(token.member)
        if reason:
            split.notes.append(f"asked key by key by Postfix, as before, because {reason}")

    def _why_one_by_one(self, tokens: Sequence[Token]) -> str:
        keys = self.setting.parameter.keys
        if keys is Keys.MIXED:
            return "its keys are of several kinds"
        if keys is Keys.ADDRESS and not self.local_domains_known:
            return "mydestination holds tables or files, so that only Postfix knows which domains are local"
        direct = [index for index, token in enumerate(tokens) if token.member.type == "mysql"]
        if not direct:
            return ""
        others = [
            (index, token.member)
            for index, token in enumerate(tokens)
            if token.member.type != "mysql"
        ]
        for index, member in others:
            if index > direct[0]:
                return (
                    f"{member.text} comes after a mysql: table, and a partial key of one may "
                    "precede a key of the other"
                )
            if member.asked_partial_keys:
                return (
                    f"{member.text} is asked for partial keys, too, and they take turns with "
                    "those of the mysql: tables"
                )
        return ""

    def patterns(self, replaced: dict[int, str | None]) -> None:
        """Replace the ``mysql:`` members of a list that is walked member by member."""
        keys = self.setting.parameter.keys
        self._refuse_braces()
        for run in _runs(self.setting.tokens, one_by_one=self.setting.parameter.one_by_one):
            self._replace(replaced, run, keys, keys is Keys.MIXED)
        for index, token in enumerate(self.setting.tokens):
            if index not in replaced and token.mentions_mysql:
                replaced[index] = self._bundle(token.member)

    def _refuse_braces(self) -> None:
        for token in self.setting.tokens:
            if token.options_block:
                raise Unmovable(
                    f"{token.text} stands in braces, which Postfix refuses in "
                    f"{self.setting.parameter.name}; write the table without them"
                )

    def _replace(
        self, replaced: dict[int, str | None], run: Sequence[int], keys: Keys, key_by_key: bool
    ) -> None:
        first = self.setting.tokens[run[0]]
        files = tuple(self._file(self.setting.tokens[index].member) for index in run)
        need = MapNeed(
            self.setting.name, tuple(dict.fromkeys(files)), Keys.EXACT if key_by_key else keys
        )
        table = one_by_one(self.name_map(need)) if key_by_key else self.name_map(need)
        replaced.update(dict.fromkeys(run))
        replaced[run[0]] = f"!{table}" if first.member.negated else table

    def restrictions(self, replaced: dict[int, str | None]) -> None:
        """Replace the tables behind check_*_access restrictions."""
        before = ""
        for index, token in enumerate(self.setting.tokens):
            word, before = before, token.text.lower()
            if not token.mentions_mysql:
                continue
            implied = IMPLIED_RESTRICTION.get(self.setting.parameter.name, "")
            restriction = word if word in RESTRICTION_KEYS else implied
            if not restriction:
                raise Unmovable(
                    f"{token.text} stands where Postfix expects no table; write check_…_access in front of it"
                )
            replaced[index] = self._restriction_table(token, restriction)

    def _restriction_table(self, token: Token, restriction: str) -> str:
        keys = RESTRICTION_KEYS[restriction]
        if token.options_block:
            first, *options = split_list(bundle_content(token.member.text))
            if not Member(first).mentions_mysql:
                raise Unmovable(
                    f"{token.text} does not begin with its table, as Postfix expects it to"
                )
            table = self._restriction_table(Token(Member(first), token.origin), restriction)
            return f"{{ {' '.join([f'{table},', *options])} }}"
        if token.member.type != "mysql":
            return self._bundle(token.member)
        files = (self._file(token.member),)
        if restriction == "check_sender_access" and self._asks_for_a_name_instead_of_null():
            return one_by_one(self.name_map(MapNeed(restriction, files, Keys.EXACT)))
        return self.name_map(MapNeed(restriction, files, keys))

    def _asks_for_a_name_instead_of_null(self) -> bool:
        """Return whether the null sender is asked for under a name that a search would take apart."""
        return self.setting.settings.value("smtpd_null_access_lookup_key") not in ("", "<>")

    def _file(self, member: Member) -> str:
        """Return the path of a table's file; Postfix's programs read ``./x.cf`` in their queue directory."""
        file = member.mysql_file
        if not file:
            raise Unmovable(
                f"{member.text} takes its settings from main.cf (an old form); put them into a .cf file and name that"
            )
        return str(Path(self.setting.settings.value("queue_directory")) / file)

    def _bundle(self, bundle: Member) -> str:
        """Return a ``unionmap:`` or ``pipemap:`` with its ``mysql:`` members replaced, asked for the same keys.

        A ``proxy:`` before it goes: it is another table now, which proxymap(8) has not approved.
        """
        members = []
        for index, member in enumerate(bundle.inner):
            text = member.text
            if member.inner and member.mentions_mysql:
                text = self._bundle(member)
            elif member.type == "mysql":
                text = self.name_map(MapNeed(self.setting.name, (self._file(member),), Keys.EXACT))
                text = one_by_one(text) if index == 0 else text
            members.append(text)
        prefix = bundle.without_proxy[: bundle.without_proxy.find("{")]
        return f"{prefix}{{{','.join(members)}}}"


def _runs(tokens: Sequence[Token], *, one_by_one: bool = False) -> Iterator[list[int]]:
    """Yield the indexes of neighbouring ``mysql:`` tables, all negated or none; or each table alone."""
    for (is_mysql, _), group in groupby(
        enumerate(tokens), key=lambda pair: (pair[1].member.type == "mysql", pair[1].member.negated)
    ):
        indexes = [index for index, _ in group]
        if is_mysql and one_by_one:
            yield from ([index] for index in indexes)
        elif is_mysql:
            yield indexes


__all__ = ["MapNeed", "NameMap", "Split", "Unmovable", "one_by_one", "split_setting"]
