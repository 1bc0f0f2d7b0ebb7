"""The domains for which Postfix also looks up a bare user name: myorigin and mydestination, see resolve_local(3).

Host addresses in brackets count as local, too; those of inet_interfaces and proxy_interfaces are
known when they are written out.
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


def _addresses(main_cf: MainCf) -> list[str]:
    listed = split_list(f"{main_cf.value('inet_interfaces')} {main_cf.value('proxy_interfaces')}")
    found = []
    for text in ["127.0.0.1", "::1", *listed]:
        try:
            address = ipaddress.ip_address(text.strip("[]"))
        except ValueError:
            continue
        found.append(f"[ipv6:{address}]" if address.version == 6 else f"[{address}]")
    return list(dict.fromkeys(found))
