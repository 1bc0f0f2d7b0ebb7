"""The table: one line per question, as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from bench.machine import Machine
from bench.source import OURS

BEGIN, END = "<!-- measured by scripts/bench -->", "<!-- end of what scripts/bench measured -->"
HEAD = "| # | what | mailmapd | peer | ratio | target | met |\n|---:|---|---|---|---:|---|---|\n"


@dataclass(frozen=True)
class Line:
    """One line of the table; `met` is None for figures that are reported without a target."""

    row: int
    what: str
    ours: str
    peer: str = ""
    ratio: str = ""
    target: str = ""
    met: bool | None = None

    def markdown(self) -> str:
        """Return the line as a row of a Markdown table."""
        met = {None: "", True: "yes", False: "**no**"}[self.met]
        cells = [str(self.row), self.what, self.ours, self.peer, self.ratio, self.target, met]
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"


def render(lines: Iterable[Line], machine: Machine, remarks: Iterable[str]) -> str:
    """Return the whole table below a header that says where it was measured."""
    body = "".join(line.markdown() for line in sorted(lines, key=lambda line: line.row))
    return machine.markdown() + "".join(f"* {remark}\n" for remark in remarks) + "\n" + HEAD + body


def insert(document: str, table: str) -> str:
    """Return a document with the table between its two marks in place of what was there.

    A document without marks is the table alone.
    """
    head, begin, rest = document.partition(BEGIN)
    _, end, tail = rest.partition(END)
    return head + begin + "\n" + table + "\n" + end + tail if end else table


def about(source: str, lines: Iterable[Line]) -> Iterator[Line]:
    """Yield lines that were measured of one source: targets are for ours, and what another has
    measured says whose it is.
    """
    for line in lines:
        if source == OURS:
            yield line
        else:
            yield replace(line, what=f"{line.what}; {source}", target="reported", met=None)


def failed(row: int, error: Exception) -> Line:
    """Return the line of a row that could not be measured."""
    text = (str(error).strip().splitlines() or [""])[0]
    return Line(row, "not measured", f"{type(error).__name__}: {text}"[:200])


def count(number: float) -> str:
    """Return a number with its thousands apart."""
    return f"{number:,.0f}".replace(",", " ")


def per_second(number: float) -> str:
    """Return a rate."""
    return f"{count(number)}/s"


def micros(number: float) -> str:
    """Return a time given in microseconds."""
    return f"{number:.1f} µs" if number < 1000 else f"{number / 1000:.1f} ms"


def times(ratio: float) -> str:
    """Return a ratio."""
    return f"{ratio:.2f}" if ratio < 10 else f"{ratio:.0f}"
