"""The pages of docs/ as a reader uses them: their sections, and the commands that can be pasted."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

PROJECT = Path(__file__).parents[2]
LANGUAGES = {"en": "", "zh": ".zh-CN"}

_HEADING = re.compile(r"^(#{1,6}) (.+)$", re.MULTILINE)
_BLOCK = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)


def page(name: str, language: str = "en") -> str:
    """Return the text of a page, such as "migrate"; README is a page, too."""
    folder = PROJECT if name == "README" else PROJECT / "docs"
    return (folder / f"{name}{LANGUAGES[language]}.md").read_text(encoding="utf-8")


def without_blocks(text: str) -> str:
    """Return the prose: what looks like a heading in a block of code is a comment."""
    return _BLOCK.sub("", text)


def headings(text: str) -> list[tuple[int, str]]:
    """Return (level, title) of every heading, in order."""
    return [(len(signs), title) for signs, title in _HEADING.findall(without_blocks(text))]


def blocks(text: str) -> list[tuple[str, str]]:
    """Return (language, code) of every block, without its indent."""
    return [(language, textwrap.dedent(code)) for _, language, code in _BLOCK.findall(text)]


def commands(text: str) -> list[str]:
    """Return every block of shell commands."""
    return [code for language, code in blocks(text) if language == "sh"]


def section(text: str, level: int, number: int) -> str:
    """Return the text below the heading of a level with this number, up to the next heading of the
    same or a higher level.
    """
    inside = [(match.start(), match.end()) for match in _BLOCK.finditer(text)]
    places = [
        (match.start(), len(match[1]))
        for match in _HEADING.finditer(text)
        if not any(start <= match.start() < end for start, end in inside)
    ]
    own = [place for place, signs in places if signs == level]
    later = [place for place, signs in places if signs <= level and place > own[number]]
    return text[own[number] : min(later, default=len(text))]
