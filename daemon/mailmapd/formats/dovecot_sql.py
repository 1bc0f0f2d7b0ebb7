"""The file with a Dovecot's SQL, whichever version wrote it: dovecot-sql.conf.ext of 2.3, or blocks of 2.4."""

from __future__ import annotations

import re
from pathlib import Path

from mailmapd.errors import ConfigError, Fault
from mailmapd.formats.dovecot_sql_24 import is_of_24, read_dovecot_sql_24
from mailmapd.formats.dovecot_sql_conf import DovecotSqlConf, read_dovecot_sql_conf

_DICT_MAP = re.compile(r"^[ \t]*(?:dict_)?map(?:[ \t]+\S+)?[ \t]*\{", re.MULTILINE)


def read_dovecot_sql(path: str | Path) -> DovecotSqlConf:
    """Read a file of either version. Raises ConfigError with every fault; none shows a password."""
    text = text_of(path)
    if is_of_24(text):
        return read_dovecot_sql_24(Path(path))
    if _DICT_MAP.search(text):
        problem = "holds map { }: this is a dict map, whose keys are paths and not users"
        raise ConfigError([Fault(str(path), "", problem, "leave it to Dovecot's dict service")])
    return read_dovecot_sql_conf(path)


def text_of(path: str | Path) -> str:
    """Return what a file holds, or nothing when it cannot be read, which its reader tells."""
    try:
        return Path(path).read_bytes().decode("utf-8", "surrogateescape")
    except OSError:
        return ""
