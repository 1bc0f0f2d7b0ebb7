"""The demonstration's configuration file."""

from __future__ import annotations

import socket
from pathlib import Path

_TEMPLATE = """\
# The configuration of `mailmapd demo`. A real one names a MySQL server instead of this file: see mailmapd.toml(5).

[listen]
socketmap = ["unix:{folder}/socketmap"]
http = "127.0.0.1:{port}"
control = "unix:{folder}/control"

[database.mail]
driver = "sqlite"
path = "{folder}/mail.sqlite"

[table.domain]
database = "mail"
query = "SELECT mail_domain FROM email_user WHERE mail_domain = '%s' LIMIT 1"

[table.mailbox]
database = "mail"
query = "SELECT mail_dir FROM email_user WHERE mail_account = '%s'"

[table.alias]
database = "mail"
query = "SELECT destination FROM email_aliase WHERE aliase = '%s'"

[map.virtual_mailbox_domains]
tables = ["domain"]
search = "exact"

[map.virtual_mailbox_maps]
tables = ["mailbox"]
search = "address"
recipient_delimiter = "+"

[map.virtual_alias_maps]
tables = ["alias"]
search = "address"
recipient_delimiter = "+"
propagate_unmatched_extensions = true
"""


def write(folder: Path, port: int) -> Path:
    """Write mailmapd.toml into the folder and return its path."""
    path = folder / "mailmapd.toml"
    path.write_text(_TEMPLATE.format(folder=folder, port=port), encoding="utf-8")
    return path


def free_port(wanted: int) -> int:
    """Return the wanted TCP port of the loopback address, or any free one when it is taken."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise OSError("no TCP port is free on 127.0.0.1")
