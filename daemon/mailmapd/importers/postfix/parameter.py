"""One main.cf parameter that may name lookup tables: its keys, its form, its flags and its readers.

A table that Postfix takes for fixed strings (``mysql:``) is asked for every partial key, one after
the other over the whole list; one that it takes for patterns (``socketmap:``) only for the full
key. `Keys` says which of a parameter's keys are partial ones:

* EXACT: none. Postfix asks patterns, too, for every key it has.
* ADDRESS, TRANSPORT, ACCESS, HELO, DOMAIN: a search that mailmapd does for Postfix, under the same
  name as in mailmapd.toml.
* MIXED: several kinds of keys in one list; Postfix must go on asking key by key.

`Folding` says what Postfix does to a key first, which follows from the flags with which the table
is opened: DICT_FLAG_FOLD_FIX and DICT_FLAG_UTF8_REQUEST. The readers are the programs that open the
table; those of `PRIVATE` run with the rights of whoever calls them, or of the group postdrop, and
cannot open a socket that belongs to postfix. A reader in `REFUSING` takes no tables from a network
service at all (DICT_FLAG_PARANOID).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Keys(Enum):
    """The keys that Postfix asks for a parameter; the value is the `search` of a map that stands for it."""

    EXACT = "exact"
    ADDRESS = "address"
    TRANSPORT = "transport"
    ACCESS = "access"
    HELO = "helo"
    DOMAIN = "domain"
    MIXED = "mixed"


class Form(Enum):
    """The form of a parameter's value: how it is written and walked."""

    MAPS = "maps"
    """Tables, asked key by key: one key in all of them, then the next key."""
    PATTERNS = "patterns"
    """Names, files and tables, asked one by one: all keys in one of them, then the next."""
    RESTRICTIONS = "restrictions"
    """smtpd(8) restrictions, some followed by a table."""


class Folding(Enum):
    """The folding of a key by Postfix; the value is the `fold` of a map that stands for the parameter."""

    UNICODE = "unicode"
    """Folds with Unicode's rules, and finds nothing for what is not UTF-8."""
    ASCII = "ascii"
    """Folds ASCII letters, and checks nothing."""
    UTF8 = "utf8"
    """Finds nothing for what is not UTF-8, and keeps upper case."""
    NONE = "none"
    """Asks for the key as it is."""

    def without_utf8(self) -> Folding:
        """Return what is left of it with ``smtputf8_enable = no``."""
        return {Folding.UNICODE: Folding.ASCII, Folding.UTF8: Folding.NONE}.get(self, self)


PRIVATE = {
    "sendmail": "with the rights of the user who calls it",
    "postdrop": "with the rights of the group postdrop",
    "postqueue": "with the rights of the group postdrop",
}
"""Programs that users start, and with which rights they run; every other reader is a daemon of mail_owner."""

REFUSING = ("local", "virtual")
"""Delivery agents that take no socketmap: tables for what they open as DICT_FLAG_PARANOID."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """One main.cf parameter.

    `propagates` is its word in propagate_unmatched_extensions, `parent_style` its word in
    parent_domain_matches_subdomains. `refused_by` names the delivery agent that reads the
    parameter, too, and takes no tables from a network service. `readers` are all programs that
    open its tables. With `one_by_one` each member of the list is a question of its own, because
    Postfix may go on to the next one after an answer.
    """

    name: str
    keys: Keys
    form: Form = Form.MAPS
    propagates: str = ""
    parent_style: str = ""
    refused_by: str = ""
    folding: Folding = Folding.UNICODE
    readers: tuple[str, ...] = ("smtpd",)
    one_by_one: bool = False

    @property
    def private_reader(self) -> str:
        """Return the first reader that runs with the rights of a user or of postdrop, or nothing."""
        return next((reader for reader in self.readers if reader in PRIVATE), "")
