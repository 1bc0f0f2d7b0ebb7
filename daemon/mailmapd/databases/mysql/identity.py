"""Identity: what tells a server from every other one, whatever address leads to it."""

from __future__ import annotations

from collections.abc import Sequence

from mailmapd.model import Row

Identity = tuple[str, ...]
"""A server's id, its host's name, its port, where its data is, and MySQL's UUID; empty where it is not known."""

COLUMNS = 5

_NAMES = ("server_id", "hostname", "port", "datadir")


def identity_query(*, is_mariadb: bool) -> str:
    """Return the statement that asks a server who it is."""
    columns = [f"@@global.{name}" for name in _NAMES]
    columns.append("''" if is_mariadb else "@@global.server_uuid")
    return f"SELECT {', '.join(columns)}"


def read_identity(rows: Sequence[Row]) -> Identity:
    """Return what the answer says."""
    return tuple(
        "" if value is None else value.decode("utf-8", "replace")
        for value in (rows[0] if rows else ())
    )
