"""The pages that exist in two languages say the same: sections, commands, settings and tables match."""

from __future__ import annotations

import re

import pytest

from support.guide import PROJECT, blocks, headings, page, without_blocks

PAGES = (
    *("README", "index", "install", "migrate", "dovecot", "trouble"),
    *("tuning", "freshness", "fleet", "control", "faq"),
)
_COMMENT = re.compile(r"\s*(?:#|--)\s.*$", re.MULTILINE)
_TABLE = re.compile(r"(?:^ *\|.*\|$\n?)+", re.MULTILINE)
_SPAN = re.compile(r"`+([^`]+)`+")
_LINK = re.compile(r"\]\(([^)\s]+)\)")


def code(text: str) -> list[tuple[str, str]]:
    """Return every block without its comments, which are translated."""
    return [(language, _COMMENT.sub("", inside)) for language, inside in blocks(text)]


def tables(text: str) -> list[tuple[int, int]]:
    """Return (rows, columns) of every table."""
    found = [table.strip().splitlines() for table in _TABLE.findall(without_blocks(text))]
    return [(len(rows), len(re.findall(r"(?<!\\)\|", rows[1])) - 1) for rows in found]


def paragraphs(text: str) -> list[tuple[int, int]]:
    """Return (paragraphs, points of lists) of every section."""
    sections = re.split(r"^#{1,6} .*$", without_blocks(text), flags=re.MULTILINE)
    return [
        (
            len([paragraph for paragraph in re.split(r"\n\s*\n", section) if paragraph.strip()]),
            len(re.findall(r"^\s*[*] ", section, re.MULTILINE)),
        )
        for section in sections
    ]


def names(text: str) -> list[set[str]]:
    """Return what is quoted as code in the prose and the tables of every section."""
    sections = re.split(r"^#{1,6} .*$", without_blocks(text), flags=re.MULTILINE)
    return [set(_SPAN.findall(section)) for section in sections]


def links(text: str) -> list[str]:
    """Return the pages that are linked to, whichever language they are in, without those to the
    other language of this page.
    """
    found = {link.partition("#")[0].replace(".zh-CN", "") for link in _LINK.findall(text)}
    return sorted(link for link in found if link and not link.startswith("http"))


def test_every_page_that_must_be_is_in_both_languages() -> None:
    """A Chinese page stands beside an English one of the same name, and the list above has them all."""
    chinese = {path.name for path in PROJECT.glob("*.zh-CN.md")}
    chinese |= {path.name for path in (PROJECT / "docs").glob("*.zh-CN.md")}
    assert chinese == {f"{name}.zh-CN.md" for name in PAGES}


@pytest.mark.parametrize("name", PAGES)
def test_sections_match(name: str) -> None:
    """Both languages have the same sections, in the same order and depth."""
    english, chinese = headings(page(name)), headings(page(name, "zh"))
    assert [level for level, _ in english] == [level for level, _ in chinese]


@pytest.mark.parametrize("name", PAGES)
def test_paragraphs_match(name: str) -> None:
    """Each section says as much in both languages: as many paragraphs, and as many points in its lists."""
    assert paragraphs(page(name, "zh")) == paragraphs(page(name))


@pytest.mark.parametrize("name", PAGES)
def test_commands_and_settings_match(name: str) -> None:
    """Both languages have the same blocks of commands and settings, comments apart."""
    assert code(page(name, "zh")) == code(page(name))


@pytest.mark.parametrize("name", PAGES)
def test_tables_match(name: str) -> None:
    """Both languages have the same tables, row for row."""
    assert tables(page(name, "zh")) == tables(page(name))


@pytest.mark.parametrize("name", PAGES)
def test_names_match(name: str) -> None:
    """What a section names (commands, keys, files, words of logs), it names in both languages."""
    assert names(page(name, "zh")) == names(page(name))


@pytest.mark.parametrize("name", PAGES)
def test_links_match(name: str) -> None:
    """Both languages lead to the same pages, and the Chinese one to Chinese pages where there are any."""
    assert links(page(name, "zh")) == links(page(name))
    for link in _LINK.findall(page(name, "zh")):
        target = re.sub(r"^(?:.*/)?(\w+)\.md(?:#.*)?$", r"\1", link)
        assert target not in PAGES or link == f"{name}.md", link


@pytest.mark.parametrize("name", PAGES)
def test_chinese_is_chinese(name: str) -> None:
    """A Chinese page is written in Chinese: no paragraph of prose is left in English."""
    prose = _TABLE.sub("", without_blocks(page(name, "zh")))
    for paragraph in re.split(r"\n\s*\n", prose):
        words = re.sub(r"`[^`]*`|\[[^\]]*\]\([^)]*\)|https?://\S+", "", paragraph)
        if len(words.split()) > 12:
            assert re.search(r"[\u4e00-\u9fff]", words), paragraph
