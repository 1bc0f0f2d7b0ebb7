"""The SQL text of each table, as its administrator wrote it."""

from __future__ import annotations

from mailmapd.config.files import path_beside
from mailmapd.config.schema import Config
from mailmapd.formats.postfix_cf import read_postfix_cf


def query_texts(config: Config) -> dict[str, str]:
    """Return each table's query template, from the configuration or from its .cf file. Raises ConfigError."""
    return {name: _text(config, name) for name in config.tables}


def _text(config: Config, name: str) -> str:
    table = config.tables[name]
    if table.postfix_cf is not None:
        cf = read_postfix_cf(path_beside(config.file, table.postfix_cf))
        return cf.query.decode("utf-8", "surrogateescape")
    return table.query or table.dovecot_query or ""
