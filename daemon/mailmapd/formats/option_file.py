"""Option files of the MySQL client library (my.cnf), as mysql_table(5)'s `option_file` and `option_group` use them.

    [client]
    user = mail
    password = "se#cret"        # quotes keep a number sign
    ssl-ca = /etc/ssl/db.pem    # `-` and `_` are the same

The groups client, client-server and client-mariadb are read, then `option_group`; later lines win.
`!include` lines are not followed.
"""

from __future__ import annotations

import re
from pathlib import Path

_ALWAYS = ("client", "client-server", "client-mariadb")
_ESCAPES = {"b": "\b", "t": "\t", "n": "\n", "r": "\r", "\\": "\\", "s": " ", '"': '"', "'": "'"}


def read_option_file(path: str, group: str) -> dict[str, str]:
    """Return the options that apply, names with `_` for `-`; an option without a value is an empty string.

    Raises OSError.
    """
    text = Path(path).read_text(encoding="utf-8", errors="surrogateescape")
    wanted = {*_ALWAYS, group}
    options: dict[str, str] = {}
    own: dict[str, str] = {}
    current = ""
    for raw in text.splitlines():
        line = raw.strip()
        if not line or line[0] in "#;!":
            continue
        if line.startswith("["):
            current = line[1:].partition("]")[0].strip()
            continue
        if current in wanted:
            name, _, value = line.partition("=")
            target = own if current == group else options
            target[name.strip().replace("-", "_").removeprefix("loose_")] = _value(value.strip())
    return options | own


def _value(text: str) -> str:
    """Return a value without its quotes, its comment and its escapes."""
    if found := re.match(r"""(["'])(.*)\1\s*(?:#.*)?$""", text):
        text = found[2]
    else:
        text = re.sub(r"\s+#.*$", "", text)
        text = "" if text.startswith("#") else text
    return re.sub(r"\\(.)", lambda escape: _ESCAPES.get(escape[1], escape[0]), text)
