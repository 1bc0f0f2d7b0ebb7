"""Tables that Postfix opens by way of proxymap(8), which approves only what proxy_read_maps lists.

That list names parameters by default, so that a ``proxy:`` table is approved as long as one of them
holds it. When a table moves out of its parameter, the others that still name it lose their
approval with it, and smtpd(8) ends with "proxymap service is not configured for table".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from mailmapd.formats.main_cf import MainCf
from mailmapd.formats.map_list import Member, bundle_content, parse_members, split_list

PARAMETER = "proxy_read_maps"


def approved(view: MainCf) -> set[str]:
    """Return the tables that proxymap(8) opens for its clients, without ``proxy:``."""
    return set(_approved(view.value(PARAMETER)))


def asked(view: MainCf, names: Iterable[str]) -> Iterator[str]:
    """Yield the tables, without ``proxy:``, that the values of these parameters ask proxymap(8) for."""
    for name in names:
        text = view.value(name)
        if "proxy:" in text:
            yield from _asked(parse_members(text))


def _asked(members: Iterable[Member]) -> Iterator[str]:
    for member in members:
        if member.text.startswith("proxy:"):
            yield _bare(member.text)
        elif member.text.startswith("{"):
            yield from _asked(parse_members(bundle_content(member.text)))
        else:
            yield from _asked(member.inner)


def _approved(text: str) -> Iterator[str]:
    for item in split_list(text):
        name = item
        if name.startswith("{"):
            name = next(iter(split_list(bundle_content(name))), "")
        if name.startswith(("unionmap:{", "pipemap:{")):
            yield from _approved(bundle_content(name))
        elif name.startswith("proxy:"):
            yield _bare(name)


def _bare(text: str) -> str:
    while text.startswith("proxy:"):
        text = text.removeprefix("proxy:")
    return text
