"""Option files of the MySQL client library (my.cnf), as mysql_table(5)'s `option_file` and `option_group` use them.

    [client]
    user = mail
    password = "se#cret"        # quotes keep a number sign
    ssl-ca = /etc/ssl/db.pem    # `-` and `_` are the same
    !include /etc/mysql/mail.cnf

Read as MariaDB Connector/C does (ma_default.c), with which Postfix is linked: of the groups client,
client-server, client-mariadb and `option_group` the last line in the file wins, whatever its group; a
number sign in a value without quotes belongs to it; an unknown escape keeps its backslash; other files
are read where they are included.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

_ALWAYS = ("client", "client-server", "client-mariadb")
_ESCAPES = {"b": "\b", "t": "\t", "n": "\n", "r": "\r", "\\": "\\", "s": " ", '"': '"', "'": "'"}
_ALIASES = {
    "db": "database",
    "unix_socket": "socket",
    "servername": "host",
    "passwd": "password",
    "tls_key": "ssl_key",
    "tls_cert": "ssl_cert",
    "tls_ca": "ssl_ca",
    "tls_capath": "ssl_capath",
    "tls_cipher": "ssl_cipher",
    "tls_enforce": "ssl_enforce",
    "tls_verify_peer": "ssl_verify_server_cert",
    "tls_crl": "ssl_crl",
    "tls_crlpath": "ssl_crlpath",
    "tls_fp": "ssl_fp",
    "tls_fplist": "ssl_fplist",
    "ssl_fp_list": "ssl_fplist",
}
_QUOTES = ("'", '"')
_MAX_DEPTH = 64
"""So deep may files include each other."""

REFUSED = {
    "init_command": "runs a statement at every login, which mailmapd does not",
    "connection": "holds a connection string, which mailmapd does not read",
    **dict.fromkeys(
        ("ssl_fp", "ssl_fplist"),
        "names the server's certificate by its fingerprint, which mailmapd does not compare; write ssl-ca",
    ),
    **dict.fromkeys(
        ("ssl_crl", "ssl_crlpath"),
        "names revoked certificates, which mailmapd does not look for; remove it, or use another authority",
    ),
}
"""Options that would be needed to mean the same, and why they are not taken."""


def read_option_file(path: str, group: str) -> dict[str, str]:
    """Return the options that apply, names with `_` for `-`; an option without a value is an empty string.

    Raises OSError.
    """
    options: dict[str, str] = {}
    for name, value in _options(Path(path), {*_ALWAYS, group}, 0):
        options[_ALIASES.get(name, name)] = value
    return options


def refused_option(options: dict[str, str]) -> str:
    """Return which option keeps a file from meaning the same here, and why; nothing when none does."""
    name = next((name for name in options if name in REFUSED), "")
    return f"{name.replace('_', '-')} {REFUSED[name]}" if name else ""


def _options(path: Path, wanted: set[str], depth: int) -> Iterator[tuple[str, str]]:
    """Yield the options of a file in order; one before the first group ends it, as in the library."""
    group: str | None = None
    for raw in path.read_text(encoding="utf-8", errors="surrogateescape").splitlines():
        line = raw.strip()
        if line.startswith("!"):
            yield from _included(line, wanted, depth)
        elif line.startswith("["):
            group = line[1:].partition("]")[0].rstrip()
        elif line and line[0] not in "#;":
            if group is None:
                return
            if group in wanted:
                name, _, value = line.partition("=")
                key = name.strip().replace("-", "_")
                yield key, _value(value.strip())


def _included(line: str, wanted: set[str], depth: int) -> Iterator[tuple[str, str]]:
    """Yield the options of an included file, or of my.cnf and my.ini in an included folder, as far as they exist."""
    word, _, name = line[1:].partition(" ")
    path = Path(name.strip())
    files = {"include": [path], "includedir": [path / "my.ini", path / "my.cnf"]}.get(word, [])
    for file in files:
        if depth < _MAX_DEPTH and file.is_file():
            yield from _options(file, wanted, depth + 1)


def _value(text: str) -> str:
    """Return a value without its escapes and the quotes around it, of either kind; what follows one belongs to it."""
    if text[:1] in _QUOTES:
        text = text[1:]
        if text[-1:] in _QUOTES:
            text = text[:-1]
    return re.sub(r"\\(.)", lambda escape: _ESCAPES.get(escape[1], escape[0]), text)
