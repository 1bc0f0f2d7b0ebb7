"""Settings of the fleet's server, as plain checked values. Secrets never show in a repr."""

from __future__ import annotations

from dataclasses import dataclass, field

from mailmapd.databases.settings import TlsSettings

SPARED = 0.8
"""The part of the server's own limit of memory beyond which no answers are shared: the rest is for messages."""


@dataclass(frozen=True, slots=True)
class ClusterSettings:
    """The stream's place, and the account that reads it.

    Either `url` (``unix:/path``, ``redis://…``, ``rediss://…``) or `sentinels` (``host:port``) with the name of a
    `service`. To another host the password goes by TLS, or with `allow_plain_password`. `host` is this daemon's name
    among the others, `key` what all of them sign with, if they do, and seal the answers of the second level with, which
    shares nothing more when the server uses `second_level_max_bytes`.
    """

    url: str = ""
    sentinels: tuple[str, ...] = ()
    service: str = ""
    user: str | None = None
    password: str = field(default="", repr=False)
    sentinel_password: str = field(default="", repr=False)
    tls: TlsSettings | None = None
    allow_plain_password: bool = False
    stream: str = "mailmapd"
    host: str = ""
    max_messages: int = 20_000
    key: bytes = field(default=b"", repr=False)
    second_level: bool = False
    second_level_passwords: bool = False
    second_level_max_bytes: int = 256 * 1024 * 1024

    @property
    def place(self) -> str:
        """Return where the server is, for messages."""
        return self.url or f"{self.service} of {', '.join(self.sentinels)}"

    @property
    def members(self) -> str:
        """Return the key of the hash in which every host writes how far it has read."""
        return f"{self.stream}:hosts"

    @property
    def shared(self) -> str:
        """Return what the names of the second level's keys begin with."""
        return f"{self.stream}:shared:"
