"""Lists in main.cf: tables, domain patterns and restrictions, separated by white space or commas.

    type:name   proxy:mysql:/file   !type:name   unionmap:{type:name, type:name}
    { type:name, search_order = … }   /file   word

Braces protect the separators inside them, as in Postfix's mystrtokq(3).
"""

from __future__ import annotations

from dataclasses import dataclass

from mailmapd.formats.logical_lines import BLANKS

SEPARATORS = f"{BLANKS},"

_PATTERN = frozenset(("cidr", "fail", "nofile", "pcre", "randmap", "regexp", "socketmap", "tcp"))
_BUNDLES = frozenset(("pipemap", "unionmap"))


def split_list(text: str, separators: str = SEPARATORS) -> list[str]:
    """Return the members of a list; braces protect the separators between them."""
    members: list[str] = []
    start, level = None, 0
    for at, letter in enumerate(text):
        if letter in separators and level <= 0:
            if start is not None:
                members.append(text[start:at])
                start = None
            continue
        if start is None:
            start = at
        level += (letter == "{") - (letter == "}")
    if start is not None:
        members.append(text[start:])
    return members


@dataclass(frozen=True, slots=True)
class Member:
    """One member of a list, after expansion. `text` has no leading ``!``; `negated` tells of an odd number of them."""

    text: str
    negated: bool = False

    @property
    def is_table(self) -> bool:
        """Return whether the member is a lookup table (and not a name, a pattern or a file of patterns)."""
        return ":" in self.text and self.text[0] not in "[/"

    @property
    def type(self) -> str:
        """Return the table's type, without ``proxy:``; empty for what is no table."""
        return self.without_proxy.partition(":")[0] if self.is_table else ""

    @property
    def without_proxy(self) -> str:
        """Return the member without the ``proxy:`` in front of it."""
        return self.text.removeprefix("proxy:")

    @property
    def mysql_file(self) -> str | None:
        """Return the .cf file of a ``mysql:`` table, None for anything else.

        A name that begins with a dot is a file, too, below queue_directory. Empty when the name is no file.
        """
        if self.type != "mysql":
            return None
        name = self.without_proxy.partition(":")[2]
        return name if name.startswith(("/", ".")) else ""

    @property
    def inner(self) -> tuple[Member, ...]:
        """Return the tables inside ``unionmap:{…}`` or ``pipemap:{…}``, in order; empty for other members."""
        if self.type not in _BUNDLES:
            return ()
        return parse_members(bundle_content(self.text))

    @property
    def mentions_mysql(self) -> bool:
        """Return whether the member is a ``mysql:`` table or bundles one."""
        return self.type == "mysql" or any(member.mentions_mysql for member in self.inner)

    @property
    def asked_partial_keys(self) -> bool:
        """Return whether Postfix asks this table for partial keys, which it does not do for patterns.

        An unknown type counts as asked: that is the careful assumption.
        """
        if self.inner:
            return self.inner[0].asked_partial_keys
        return self.type not in _PATTERN


@dataclass(frozen=True, slots=True)
class SocketTable:
    """One ``socketmap:`` table: its address as Postfix reads it, and the map that it asks for."""

    proxied: bool
    path: str | None
    host: str
    port: str
    map: str

    @classmethod
    def parse(cls, text: str) -> SocketTable:
        """Parse ``[proxy:]socketmap:unix:PATH:MAP`` or ``socketmap:inet:HOST:PORT:MAP``, see socketmap_table(5)."""
        rest = text.removeprefix("proxy:").removeprefix("socketmap:")
        kind, _, address = rest.partition(":")
        address, _, name = address.rpartition(":")
        proxied = text.startswith("proxy:")
        if kind == "unix":
            return cls(proxied, address, "", "", name)
        host, _, port = address.rpartition(":")
        return cls(proxied, None, host, port, name)


def bundle_content(text: str) -> str:
    """Return what stands between the first opening and the last closing brace."""
    return text[text.find("{") + 1 : text.rfind("}")]


def parse_members(text: str) -> tuple[Member, ...]:
    """Return the members of an expanded list."""
    members = []
    for item in split_list(text):
        bare = item.lstrip("!")
        if bare:
            members.append(Member(bare, negated=(len(item) - len(bare)) % 2 == 1))
    return tuple(members)
