"""Which quote a piece of SQL leaves open: it says how a value that follows is quoted."""

from __future__ import annotations


def open_quote(text: str, quote: str) -> str:
    """Return which quote is open at the end of `text`, given the one open at its start."""
    position = 0
    while position < len(text):
        letter = text[position]
        if quote and letter == "\\" and quote != "`":
            position += 1
        elif letter == quote:
            quote = ""
        elif not quote and letter in "'\"`":
            quote = letter
        position += 1
    return quote
