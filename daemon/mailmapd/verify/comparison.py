"""Comparing an old answer with a new one, as far as Postfix can tell them apart.

Of maps that rewrite addresses (virtual and canonical ones) the resulting recipients are compared,
because Postfix itself adds the extension to an old answer and the daemon has added it to a new one.
Of all others the text is compared. Values of several rows come in any order.
"""

from __future__ import annotations

import re
from enum import Enum

from mailmapd.config.schema import MapSection
from mailmapd.model import Answer, Found, PermFail, TempFail
from mailmapd.model.legible import legible, legible_bytes
from mailmapd.verify.address_forms import external, internal
from mailmapd.verify.old_maps import OldAnswer, OldFound
from mailmapd.verify.postmap import LookupFailed

_ADDRESS = re.compile(rb'(?:"(?:\\.|[^"\\])*"|[^\s,"])+')


class Verdict(Enum):
    """The relation of two answers."""

    SAME = "same"
    REORDERED = "same, in another order"
    RESCUED = "Postfix could not tell, mailmapd can"
    DIFFERENT = "different"


def compare(section: MapSection, key: bytes, old: OldAnswer, new: Answer) -> Verdict:
    """Return how the answers relate."""
    if isinstance(old, LookupFailed):
        return Verdict.SAME if isinstance(new, TempFail | PermFail) else Verdict.RESCUED
    if isinstance(new, TempFail | PermFail):
        return Verdict.DIFFERENT
    if old is None or not isinstance(new, Found):
        return Verdict.SAME if (old is None) == (not isinstance(new, Found)) else Verdict.DIFFERENT
    one, other = values(section, key, old), values(section, key, new)
    if one == other:
        return Verdict.SAME
    return Verdict.REORDERED if sorted(one) == sorted(other) else Verdict.DIFFERENT


def values(section: MapSection, key: bytes, answer: OldFound | Found) -> list[bytes]:
    """Return what Postfix makes of an answer.

    The recipients of a rewriting map, the parts between commas of any other.
    """
    extension = answer.extension if isinstance(answer, OldFound) else b""
    if section.propagate_unmatched_extensions is None:
        return answer.value.split(b",")
    value = answer.value
    if value.startswith(b"@"):
        local = internal(key).rpartition(b"@")[0] or internal(key)
        value = external(local.removesuffix(extension) + value)
    added = extension if section.propagate_unmatched_extensions else b""
    return [_extended(address, added) for address in _ADDRESS.findall(value)]


def _extended(address: bytes, extension: bytes) -> bytes:
    whole = internal(address)
    local, at, domain = whole.rpartition(b"@")
    if not at:
        local, domain = whole, b""
    return external(local + extension + at + domain)


def shown(answer: OldAnswer | Answer, *, secret: bool = False) -> str:
    """Return an answer as people read it; the value of a secret map is hidden."""
    match answer:
        case OldFound() | Found() if secret:
            return "(hidden)"
        case OldFound(value, extension):
            text = legible_bytes(value)
            return f"{text} (found without {legible_bytes(extension)})" if extension else text
        case Found(value):
            return legible_bytes(value)
        case LookupFailed(text):
            return f"temporary failure: {legible(text)}"
        case TempFail(reason) | PermFail(reason):
            return f"temporary failure: {legible(reason)}"
        case _:
            return "not found"
