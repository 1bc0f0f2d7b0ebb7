"""The control client: what `flush`, `stats`, `top` and `trace` speak through."""

from __future__ import annotations

import json
import socket
from types import TracebackType
from typing import Any, Self

from mailmapd.control.protocol import ERROR_WORDS, REPLY_LIMIT, encode_request
from mailmapd.engine.look import Held
from mailmapd.engine.orders import FlushReport
from mailmapd.errors import MailmapdError

TIMEOUT = 60.0  # seconds without a word from the daemon


class ControlError(MailmapdError):
    """The daemon did not do it. `word` is one of the protocol's, or ``unreachable``."""

    def __init__(self, word: str, text: str) -> None:
        super().__init__(text)
        self.word = word


class ControlClient:
    """A connection to the control socket at `path`. Every method raises ControlError and nothing else."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(TIMEOUT)
        try:
            self._socket.connect(path)
        except OSError as error:
            self._socket.close()
            raise self._translated(error) from error
        self._stream = self._socket.makefile("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._stream.close()
        self._socket.close()

    def flush(self, **what: str | bool | float) -> FlushReport:
        """Let the daemon forget, and with it the hosts of its fleet."""
        reply = self._ask({"do": "flush", **what})
        return FlushReport(reply["dropped"], reply["unconfirmed"], reply["failure"])

    def members(self) -> dict[str, Any]:
        """Return the hosts of the daemon's fleet, by name."""
        members: dict[str, Any] = self._ask({"do": "cluster"})["members"]
        return members

    def look(self, table: str, sql_key: bytes) -> Held:
        """Return what the daemon's memory holds of one entry."""
        return Held(
            **self._ask(
                {
                    "do": "look",
                    "table": table,
                    "sql_key": sql_key.decode("utf-8", "surrogateescape"),
                }
            )["held"]
        )

    def reload(self) -> list[str]:
        """Let the daemon read its configuration again; return the faults of one that it refused."""
        faults: list[str] = self._ask({"do": "reload"})["faults"]
        return faults

    def stats(self) -> dict[str, Any]:
        """Return the daemon's counters."""
        stats: dict[str, Any] = self._ask({"do": "stats"})["stats"]
        return stats

    def _ask(self, request: dict[str, object]) -> dict[str, Any]:
        try:
            self._socket.sendall(encode_request(request))
            line = self._stream.readline(REPLY_LIMIT)
        except OSError as error:
            raise self._translated(error) from error
        if not line.endswith(b"\n"):
            raise ControlError("unreachable", f"{self._path}: the daemon closed the connection")
        try:
            reply: dict[str, Any] = json.loads(line)
            if reply["ok"]:
                return reply
            word, message = str(reply["error"]), str(reply["message"])
        except (ValueError, KeyError, TypeError) as error:
            raise ControlError(
                "failed", f"{self._path}: this is not mailmapd's control socket"
            ) from error
        raise ControlError(word if word in ERROR_WORDS else "failed", message)

    def _translated(self, error: OSError) -> ControlError:
        if isinstance(error, PermissionError):
            return ControlError(
                "no_permission",
                f"{self._path}: you may not connect; root may, and the members of the socket's group",
            )
        if isinstance(error, TimeoutError):
            return ControlError("unreachable", f"{self._path}: no reply within {TIMEOUT:.0f} s")
        reason = error.strerror or str(error)
        return ControlError(
            "unreachable",
            f"{self._path}: no daemon answers ({reason}); is mailmapd running (systemctl status mailmapd.service), "
            "and is this the listen.control of its configuration?",
        )
