from __future__ import annotations

from xml.etree import ElementTree as ET

from bench.pictures import CHARTS, draw, pairs, pictures, read
from bench.report import Line
from support.guide import PROJECT, page

PICTURES = PROJECT / "docs" / "pictures"


def test_pictures_show_the_table_of_the_page() -> None:
    """The pictures beside docs/performance.md are those that its table gives, and the page shows each."""
    text = page("performance")
    drawn = pictures(read(text))
    assert len(drawn) == len(CHARTS)
    for name, picture in drawn.items():
        assert f"](pictures/{name})" in text
        assert (PICTURES / name).read_text() == picture, (
            "scripts/bench --pictures docs/performance.md"
        )


def test_bars_are_as_long_as_their_rates() -> None:
    """The bars of a pair stand to each other as the two rates do, and none leaves the picture."""
    lines = [
        Line(5, "RCPT TO, user@, 1 client", "2 000/s", "proxy:mysql: 500/s", "4.00"),
        Line(5, "RCPT TO, user@, 1 client", "2 000/s", "static: 4 000/s", "0.50"),
        Line(5, "RCPT TO, user@, 1 client: had mailmapd's part taken no time", "3 000/s", "x"),
    ]
    [compared] = pairs(lines, CHARTS[1])
    assert (compared.label, compared.ours, compared.peer) == ("user@, 1 client", 2000.0, 500.0)
    assert compared.name == "proxy:mysql"
    root = ET.fromstring(draw("title", [compared]))  # noqa: S314 (our own text)
    bars = [element for element in root if element.tag.endswith("rect")]
    ours, peer = (float(bar.get("width", "0")) for bar in bars)
    assert ours == 4 * peer
    width = float(root.get("viewBox", "").split()[2])
    assert all(float(bar.get("x", "0")) + float(bar.get("width", "0")) < width for bar in bars)


def test_nothing_from_elsewhere() -> None:
    """A picture has words for those who cannot see it, and no script, link or font from elsewhere."""
    for text in pictures(read(page("performance"))).values():
        assert "<title>" in text
        assert "<desc>" in text
        for word in ("<script", "href", "url(", "@import"):
            assert word not in text


def test_a_table_without_figures_gives_no_picture() -> None:
    """Rows that were not measured leave their picture out."""
    assert pictures([Line(5, "not measured", "ServerFailed: postfix is not installed")]) == {}
