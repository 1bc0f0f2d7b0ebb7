"""The domains for which Postfix also looks up a bare user name: myorigin and mydestination, see resolve_local(3).

Host addresses in brackets count as local, too: those that inet_interfaces and proxy_interfaces write
out, and with ``all`` those of every interface, which may change and are therefore left to be read
when mailmapd starts.
"""

from __future__ import annotations

import ipaddress
from pathlib import Path

from mailmapd.errors import ConfigError
from mailmapd.formats.logical_lines import read_text
from mailmapd.formats.main_cf import MainCf
from mailmapd.formats.map_list import parse_members, split_list


def local_domains(main_cf: MainCf) -> tuple[str, ...] | None:
    """Return the local domains, or None when only Postfix can know them (tables, files, exceptions)."""
    names = [_origin(main_cf)]
    for member in parse_members(main_cf.value("mydestination")):
        if member.negated or member.is_table or member.text.startswith("/"):
            return None
        names.append(member.text.lower())
    names.extend(_addresses(main_cf))
    return tuple(dict.fromkeys(name for name in names if name))


def _origin(main_cf: MainCf) -> str:
    value = main_cf.value("myorigin").strip()
    if not value.startswith("/"):
        return value.lower()
    try:
        lines = read_text(Path(value)).splitlines()
    except ConfigError:
        return ""
    return lines[0].strip().lower() if lines else ""


def own_addresses(main_cf: MainCf) -> tuple[str, ...]:
    """Return what a map's `own_addresses` must say, so that this host's addresses are read when mailmapd starts."""
    words = []
    for text in _listed(main_cf):
        if text == "all":
            words.append(_family(main_cf))
        elif text != "loopback-only" and _literal(text) is None:
            words.append(text)
    return tuple(dict.fromkeys(words))


def _listed(main_cf: MainCf) -> list[str]:
    values = (main_cf.value("inet_interfaces"), main_cf.value("proxy_interfaces"))
    return split_list(" ".join(values))


def _family(main_cf: MainCf) -> str:
    protocols = split_list(main_cf.value("inet_protocols").lower())
    return protocols[0] if len(protocols) == 1 and protocols[0] in ("ipv4", "ipv6") else "all"


def _addresses(main_cf: MainCf) -> list[str]:
    found = []
    for text in _listed(main_cf):
        if text in ("all", "loopback-only"):
            family = _family(main_cf)
            found += ["[127.0.0.1]"] if family != "ipv6" else []
            found += ["[ipv6:::1]"] if family != "ipv4" else []
        elif (literal := _literal(text)) is not None:
            found.append(literal)
    return list(dict.fromkeys(found))


def _literal(text: str) -> str | None:
    try:
        address = ipaddress.ip_address(text.strip("[]"))
    except ValueError:
        return None
    return f"[ipv6:{address}]" if address.version == 6 else f"[{address}]"
