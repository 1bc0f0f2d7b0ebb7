"""Search keys: one key to ask the tables for."""

from __future__ import annotations

from typing import NamedTuple


class SearchKey(NamedTuple):
    """A key, and the address extension with its delimiter (``+ext``) that was taken off for it.

    Empty when nothing was.
    """

    key: bytes
    extension: bytes
