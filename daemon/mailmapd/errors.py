"""The exceptions of mailmapd, and what each one says about who is at fault.

    MailmapdError
     ├── ConfigError            the administrator's files: every fault found, each with file, key and remedy
     ├── TemplateError          a query template or result_format that mysql_table(5) would refuse
     ├── ProtocolError          the client broke the wire protocol: its connection ends
     ├── ClusterError           the server between the hosts could not tell; lookups never wait for it
     └── DatabaseError          a database could not tell; never the same as "no row"
          ├── DatabaseUnavailable   the connection or the host is at fault: another host may answer
          ├── DatabaseOverloaded    our own budget is used up: no connection within queue_timeout
          ├── DataError             this key's values are at fault; other keys are fine
          └── SchemaError           this table's query is at fault (unknown column or table)

Messages name the file, host, table or map at fault. They never hold a password, a hash or a client's bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

DEFECT = "mailmapd failed; its log says why"
"""The reason of a temporary failure that is the fault of this program: nobody waits for an answer in vain."""


class MailmapdError(Exception):
    """Base of everything mailmapd raises on purpose."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One mistake in a configuration file.

    `where` is a TOML key such as ``map.virtual_alias_maps.search`` or a line such as ``line 3``;
    `remedy` says what to write instead.
    """

    file: str
    where: str
    problem: str
    remedy: str

    def __str__(self) -> str:
        parts = [part for part in (self.file, self.where) if part]
        text = f"{': '.join(parts)}: {self.problem}"
        return f"{text}; {self.remedy}" if self.remedy else text


class ConfigError(MailmapdError):
    """The configuration cannot be used; `faults` lists every mistake found."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__("\n".join(str(fault) for fault in faults))
        self.faults = tuple(faults)


class TemplateError(MailmapdError):
    """A template cannot be compiled; the text says which expansion is wrong and which exist."""


class ProtocolError(MailmapdError):
    """A client sent bytes outside its protocol.

    `reason` is one of a codec's fixed words (it labels a metric), such as ``too_long``; the text is for the log.
    """

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


class ClusterError(MailmapdError):
    """The server that carries messages between hosts did not do it; the text names it, and says why."""


class DatabaseError(MailmapdError):
    """A database could not answer. The lookup becomes a temporary failure."""

    def __init__(self, text: str, *, host: str = "") -> None:
        super().__init__(text)
        self.host = host


class DatabaseUnavailable(DatabaseError):
    """The connection failed, timed out or was refused: the host is at fault."""


class DatabaseOverloaded(DatabaseError):
    """No connection became free within the queue deadline, or the queue is full."""


class DataError(DatabaseError):
    """The database cannot evaluate this key (illegal mix of collations, invalid character, …)."""


class SchemaError(DatabaseError):
    """The query does not fit the database (unknown column, unknown table, syntax, missing privilege)."""
