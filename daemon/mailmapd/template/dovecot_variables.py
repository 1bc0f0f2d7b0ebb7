"""The variables of Dovecot 2.3 queries: their names, how they are written, and what modifiers make of them.

    %[-][0]WIDTH[.[0][-]WIDTH][MODIFIERS]VARIABLE      %u  %Ls  %2.1n  %-3.2d  %L{username}  %16Mu
    %{VARIABLE | FILTER | …}                           as Dovecot 2.4 writes them: %{user | username | lower}

VARIABLE is a letter or a long name in braces; see doc.dovecot.org "Config Variables" and src/lib/var-expand.c,
src/auth/auth-request-var-expand.c. Values are bytes without NUL; a variable without a value is empty.

Every variable is of one of three kinds, because its value has to travel in a dict key:

* user-derived (%n, %d, …): computed here from the user name;
* bounded: Dovecot or its login processes choose the value (an address, a port, a service), so it never holds a ``/``;
* free: a client chose some of it (`%{login_user}`, `%{local_name}` …); one free name besides the user fits into a key.

Modifiers work on the plain value and the result is escaped; Dovecot does it the other way round,
which differs only for names with quotes or backslashes under %M, %H, %N, %R or a range, where
Dovecot's result is of the escaped name (or cuts an escape in half).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from mailmapd.errors import TemplateError
from mailmapd.template.dovecot_filters import parse_filters

SHORT_NAMES = {
    "u": "user",
    "n": "username",
    "d": "domain",
    "s": "service",
    "h": "home",
    "l": "lip",
    "r": "rip",
    "p": "pid",
    "m": "mech",
    "c": "secured",
    "a": "lport",
    "b": "rport",
    "k": "cert",
    "w": "password",
}
_ALIASES = {
    "local_ip": "lip",
    "remote_ip": "rip",
    "local_port": "lport",
    "remote_port": "rport",
    "real_local_ip": "real_lip",
    "real_remote_ip": "real_rip",
    "real_local_port": "real_lport",
    "real_remote_port": "real_rport",
    "mechanism": "mech",
    "original_user": "orig_user",
    "original_username": "orig_username",
    "original_domain": "orig_domain",
}
BOUNDED = (
    "service",
    "lip",
    "rip",
    "pid",
    "mech",
    "secured",
    "lport",
    "rport",
    "cert",
    "real_lip",
    "real_rip",
    "real_lport",
    "real_rport",
    "session_pid",
    "hostname",
)
FREE = ("login_user", "orig_user", "auth_user", "master_user", "session", "local_name", "client_id")
PER_LOGIN = frozenset({"pid", "rport", "real_rport", "session_pid", "session"})
"""Variables that differ at almost every login: an answer that depends on one is hardly ever asked for again."""

_NAMES_24 = {"protocol": "service", "client_pid": "pid"}

_REFUSED = {
    "password": "is the password in plain: an answer that depends on it cannot be cached, and "
    "the password must not leave Dovecot. "
    "Return the hash and let Dovecot compare",
    "passdb": "is a field of an earlier passdb, which Dovecot does not put into a dict key. Use SQL for it",
    "userdb": "is a field of an earlier userdb, which Dovecot does not put into a dict key. Use SQL for it",
    "if": "is a condition inside Dovecot. Write it as IF(…) or CASE in SQL",
    "env": "is the environment of Dovecot's auth process. Write the value itself",
    "!": "is a number that Dovecot gives to its passdbs. Write two queries",
    "uid": "is Dovecot's own user id. Write the number itself",
    "gid": "is Dovecot's own group id. Write the number itself",
    "pkcs5": "is a hash computed by Dovecot. Use SHA2(…) in SQL",
}
_HASHES = frozenset(
    {"md4", "md5", "sha", "sha1", "sha256", "sha384", "sha512", "sha3-256", "sha3-512", "size"}
)
_PARTS: dict[str, tuple[str, str]] = {
    "username": ("user", "username"),
    "domain": ("user", "domain"),
    "domain_first": ("user", "domain_first"),
    "domain_last": ("user", "domain_last"),
    "login_username": ("login_user", "username"),
    "login_domain": ("login_user", "domain"),
    "orig_username": ("orig_user", "username"),
    "orig_domain": ("orig_user", "domain"),
    "auth_username": ("auth_user", "username"),
    "auth_domain": ("auth_user", "domain"),
}
_EMPTY = frozenset({"home"})
_WRITTEN = re.compile(
    r"%(?:(-)?(0)?(\d*)(?:(\.)(0)?(-)?(\d*))?)([LUEXRHNMDT]{0,10})(.?)", re.DOTALL
)
LONGEST_NUMBER = 9  # digits of an offset or width
LONGEST_PADDING = 1000  # characters that a value may be filled up to

Modifier = Callable[[bytes], bytes]


@dataclass(frozen=True, slots=True)
class Use:
    """One variable as written in a query: its source name, the part of it that is meant, modifiers and range.

    Equal uses give equal values, so a query's uses are its cache key.
    """

    name: str
    part: str = ""
    modifiers: str = ""
    offset: int = 0
    width: int = 0
    zero_padding: bool = False

    def value(self, values: Mapping[str, bytes]) -> bytes:
        """Return what the query gets for this use; `values` maps source names (see `sources`) to bytes."""
        text = values.get(self.name, b"")
        if self.part:
            text = _part(text, self.part)
        offset, width = self.offset, self.width
        for letter in self.modifiers:
            if letter in "HN":
                text = _hash(letter, text, offset, width)
                offset = width = 0
            else:
                text = _MODIFIERS[letter](text)
        return _cut(text, offset, width, self.zero_padding)

    @property
    def plain_user(self) -> bool:
        """True for %u alone, whose value is the user name itself."""
        return self == Use("user")


def name_in_24(name: str) -> str:
    """Return Dovecot 2.4's name of a variable that `values` knows as `name`."""
    renamed = {old: new for new, old in (*_ALIASES.items(), *_NAMES_24.items())}
    return renamed.get(name, name)


def canonical_name(name: str) -> str:
    """Return the name that `values` use for a long name of Dovecot 2.3 or 2.4.

    A name that is none is returned as it is.
    """
    return _ALIASES.get(name) or _NAMES_24.get(name, name)


def parse_variables(template: str) -> Iterator[str | Use]:
    """Yield the literal texts and the uses of a template, in order.

    Raises TemplateError for what Dovecot or mailmapd cannot expand.
    """
    literal = ""
    position = 0
    while match := _WRITTEN.search(template, position):
        literal += template[position : match.start()]
        position = match.end()
        letter = match[9]
        if letter == "{" and (end := template.find("}", position)) >= 0:
            name, position = template[position:end], end + 1
        else:
            name = letter
        if name == "%":
            literal += "%"
        elif name:
            if literal:
                yield literal
            literal = ""
            yield _filtered(name) if "|" in name else _use(match, name, long=letter == "{")
    if literal := literal + template[position:]:
        yield literal


def _filtered(written: str) -> Use:
    """Return a use in the words of 2.4."""
    name, part, modifiers, width = parse_filters(written)
    source, own_part = _source(name, f"%{{{name}}}", long=True)
    if part and own_part:
        raise TemplateError(f"%{{{written}}}: {name} is already a part of a name")
    return Use(source, part or own_part, modifiers, width=width)


def _use(match: re.Match[str], name: str, *, long: bool) -> Use:
    minus, zero, first, dot, second_zero, second_minus, second, modifiers, _ = match.groups()
    if max(len(first or ""), len(second or "")) > LONGEST_NUMBER:
        raise TemplateError(f"%…{name}: a width of more than {LONGEST_NUMBER} digits")
    offset, width, zero_padding = 0, int(first or 0), zero is not None
    if dot:
        offset = -width if minus else width
        width, zero_padding = int(second or 0), second_zero is not None
        width = -width if second_minus else width
    if offset > LONGEST_PADDING or (zero_padding and width > LONGEST_PADDING):
        raise TemplateError(f"%…{name}: a padding of more than {LONGEST_PADDING} characters")
    source, part = _source(name, f"%{{{name}}}" if long else f"%{name}", long=long)
    return Use(source, part, modifiers, offset, width, zero_padding)


def _source(name: str, written: str, *, long: bool) -> tuple[str, str]:
    full = canonical_name(name) if long else SHORT_NAMES.get(name, name)
    family = re.split("[:;(]", full, maxsplit=1)[0]
    if family in _REFUSED:
        raise TemplateError(f"{written} {_REFUSED[family]}")
    if long and family in _HASHES:
        raise TemplateError(
            f"{written} is a hash computed by Dovecot. Use SHA2(…) or MD5(…) in SQL"
        )
    if full in _EMPTY:
        return full, ""
    if full == "user" or full in BOUNDED or full in FREE:
        return full, ""
    if full in _PARTS:
        return _PARTS[full]
    raise TemplateError(
        f"{written} is not a variable of Dovecot's auth; the usual ones are %u %n %d %s %l %r "
        "%c, and %% is a percent sign"
    )


def _part(text: bytes, part: str) -> bytes:
    local, _, domain = text.partition(b"@")
    if part == "username":
        return local
    if part == "domain_first":
        return domain.partition(b"@")[0]
    if part == "domain_last":
        return text.rpartition(b"@")[2] if b"@" in text else b""
    return domain


def _hex(text: bytes) -> bytes:
    digits = text.isdigit() and int(text) < 1 << 64
    return b"%x" % (int(text) if digits else 0)


def _hash(letter: str, text: bytes, offset: int, width: int) -> bytes:
    value = (
        _str_hash(text)
        if letter == "H"
        else int.from_bytes(hashlib.md5(text, usedforsecurity=False).digest()[:8], "big")
    )
    if width:
        value %= abs(width)
    return (b"%x" % (value & 0xFFFFFFFF)).rjust(max(offset, 0), b"0")


def _str_hash(text: bytes) -> int:
    """Return lib/hash.c's str_hash, an ELF-like hash of 32 bits."""
    value = 0
    for byte in text:
        value = ((value << 4) + byte) & 0xFFFFFFFF
        high = value & 0xF0000000
        if high:
            value ^= high >> 24
            value ^= high
    return value


def _cut(text: bytes, offset: int, width: int, zero_padding: bool) -> bytes:
    text = text[offset:] if offset > 0 or -offset < len(text) else text
    if zero_padding:
        return text.rjust(max(width, 0), b"0")
    if width < 0:
        width += len(text)
        return text[:width] if width >= 0 else text
    return text[:width] if width else text


_MODIFIERS: dict[str, Modifier] = {
    "L": bytes.lower,
    "U": bytes.upper,
    "E": lambda text: re.sub(rb"([\"'\\])", rb"\\\1", text),
    "X": _hex,
    "R": lambda text: text[::-1],
    "M": lambda text: hashlib.md5(text, usedforsecurity=False).hexdigest().encode(),
    "D": lambda text: text.replace(b".", b",dc="),
    "T": lambda text: text.rstrip(b" \t\n\v\f\r"),
}
