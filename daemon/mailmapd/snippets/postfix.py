"""main.cf for a configuration: the ``postconf -e`` lines for each map that is named after a parameter.

Postfix's smtpd, cleanup and trivial-rewrite may be chrooted in the queue directory, so a socket
below it is named relative to it.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

from mailmapd.config.address import TcpAddress
from mailmapd.config.schema import Config, MapSection
from mailmapd.errors import ConfigError, Fault
from mailmapd.formats.main_cf import read_main_cf
from mailmapd.importers.postfix.parameters import (
    PARAMETERS,
    RESTRICTION_KEYS,
    Form,
    Keys,
    Parameter,
)
from mailmapd.importers.postfix.split import one_by_one

QUEUE_DIRECTORY = "/var/spool/postfix"
_NUMBERED = re.compile(r"_\d+$")


def queue_directory_of(postfix_directory: Path = Path("/etc/postfix")) -> str:
    """Return the queue directory of the Postfix that is configured there, or the usual one where there is none."""
    try:
        return read_main_cf(postfix_directory).value("queue_directory") or QUEUE_DIRECTORY
    except ConfigError:
        return QUEUE_DIRECTORY


def postfix(config: Config, queue_directory: str = QUEUE_DIRECTORY) -> str:
    """Return the lines to paste. Raises ConfigError when no socketmap socket is configured."""
    return "\n".join(_lines(config, _table_prefix(config, queue_directory)))


def _table_prefix(config: Config, queue_directory: str) -> str:
    if not config.listen.socketmap:
        remedy = f'write socketmap = ["unix:{queue_directory}/mailmapd/socketmap"]'
        raise ConfigError(
            [Fault(config.file, "listen.socketmap", "is empty: Postfix has nobody to ask", remedy)]
        )
    address = config.listen.socketmap[0].address
    if isinstance(address, TcpAddress):
        return f"socketmap:inet:{address}"
    try:
        return f"socketmap:unix:{Path(address.path).relative_to(queue_directory)}"
    except ValueError:
        return f"socketmap:unix:{address.path}"


def _lines(config: Config, prefix: str) -> Iterator[str]:
    yield f"# Postfix's main.cf for {config.file}: lets Postfix ask mailmapd. Paste as root."
    if prefix.startswith("socketmap:unix:/"):
        yield "# The socket is outside of the queue directory: chrooted services (Debian's smtpd) cannot reach it."
    yield "# Undo: mv -f /etc/postfix/main.cf.before-mailmapd /etc/postfix/main.cf && postfix reload"
    yield (
        "[ -e /etc/postfix/main.cf.before-mailmapd ] || cp -p /etc/postfix/main.cf "
        "/etc/postfix/main.cf.before-mailmapd"
    )
    values: dict[str, list[str]] = {}
    others = []
    for name, section in config.maps.items():
        parameter = PARAMETERS.get(_NUMBERED.sub("", name))
        if parameter is None or parameter.form is Form.RESTRICTIONS:
            others.append(name)
        else:
            values.setdefault(parameter.name, []).append(
                _table(parameter, section, f"{prefix}:{name}")
            )
    if "virtual_mailbox_maps" in values:
        yield ""
        yield (
            "# virtual(8) takes no socketmap: tables, so that mailboxes must be filled by "
            "LMTP; adapt the socket to your Dovecot."
        )
        yield "postconf -e 'virtual_transport = lmtp:unix:private/dovecot-lmtp'"
    for parameter_name, tables in values.items():
        yield ""
        assignment = f"{parameter_name} = {', '.join(tables)}"
        yield f"postconf -e {shlex.quote(assignment)}"
    for name in others:
        yield ""
        yield from _other(name, f"{prefix}:{name}")
    yield ""
    yield "postfix reload"
    yield ""


def _table(parameter: Parameter, section: MapSection, table: str) -> str:
    """Return the table, wrapped for a map that leaves the search to Postfix."""
    searched_by_postfix = section.search == "exact" and parameter.keys is not Keys.EXACT
    return one_by_one(table) if searched_by_postfix else table


def _other(name: str, table: str) -> Iterator[str]:
    restriction = next((word for word in RESTRICTION_KEYS if name.startswith(word)), None)
    if restriction is not None:
        yield f"# {name}: put it into the restriction list where it belongs, such as smtpd_recipient_restrictions:"
        yield f"#   {restriction} {table}"
    else:
        yield f"# {name} is not named after a parameter of Postfix; where it is wanted, write:"
        yield f"#   {table}"
