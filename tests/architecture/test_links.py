"""Every link of a page leads somewhere: the file exists, and so does the section."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from support.guide import PROJECT, headings, without_blocks

PAGES = sorted([*PROJECT.glob("*.md"), *(PROJECT / "docs").glob("*.md")])
_LINK = re.compile(r"\]\(([^)\s]+)\)")


def anchor(title: str) -> str:
    """Return the anchor that hosts of repositories give a heading."""
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title).replace("`", "").strip().lower()
    return re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.name))
def test_links_lead_somewhere(path: Path) -> None:
    """Relative links name files of this repository, and anchors name headings of them."""
    for link in _LINK.findall(without_blocks(path.read_text(encoding="utf-8"))):
        if link.startswith(("http://", "https://", "mailto:")):
            continue
        name, _, wanted = link.partition("#")
        target = path.parent / name if name else path
        assert target.exists(), f"{path.name}: {link}"
        if wanted:
            titles = headings(target.read_text(encoding="utf-8"))
            assert wanted in {anchor(title) for _, title in titles}, f"{path.name}: {link}"


def test_every_page_is_found_from_the_readme() -> None:
    """From README, every page of docs/ can be reached by links."""
    reached: set[Path] = set()
    ahead = [PROJECT / "README.md"]
    while ahead:
        path = ahead.pop()
        if path in reached or path.suffix != ".md" or not path.exists():
            continue
        reached.add(path)
        found = _LINK.findall(without_blocks(path.read_text(encoding="utf-8")))
        names = [link.partition("#")[0] for link in found if "://" not in link]
        ahead.extend((path.parent / name).resolve() for name in names)
    missing = {path.name for path in (PROJECT / "docs").glob("*.md")} - {
        page.name for page in reached
    }
    assert missing <= {"index.md", "index.zh-CN.md"}  # the site's own first pages


def test_the_site_is_built(tmp_path: Path) -> None:
    """The documentation becomes a site, without a warning, every page in its navigation, and
    nothing fetched from elsewhere.
    """
    done = subprocess.run(
        [
            Path(sys.executable).with_name("mkdocs"),
            "build",
            "--strict",
            "--site-dir",
            tmp_path / "site",
        ],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={"NO_MKDOCS_2_WARNING": "1", "PATH": "/usr/bin:/bin"},
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    pages = {path.stem for path in (PROJECT / "docs").glob("*.md")}
    assert pages <= {path.stem for path in (tmp_path / "site").glob("*.html")}
    first = (tmp_path / "site" / "index.html").read_text(encoding="utf-8")
    outside = re.findall(r'<(?:script|link|img)[^>]+(?:src|href)="?(https?://[^\s">]+)', first)
    assert outside == []
