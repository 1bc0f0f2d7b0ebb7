"""Standing: where a host stood in the stream when its memory was written down, and whose word held there.

Whatever is in the file is as it was at `position`, or newer. It is as good as if the host had never been away when all
that was said since has been read, without a gap, and one of those followers has not stopped vouching for the servers
that were asked. Any host that asks the same may begin with the file, not only the one that has written it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mailmapd.cluster.coverage import Vouched
from mailmapd.cluster.reader import Position, order


@dataclass(frozen=True, slots=True)
class Standing:
    """A place in a stream, by its name, whose word held there, and by tables' digests which servers were asked."""

    stream: str
    position: Position
    sources: tuple[Vouched, ...]
    asked: Mapping[str, frozenset[str]]

    def encode(self) -> dict[str, Any]:
        """Return the value in terms of JSON."""
        position = self.position
        return {
            "stream": self.stream,
            "last_id": position.last_id,
            "added": position.added,
            "history": position.history,
            "sources": [
                {
                    "name": list(source.name),
                    "epoch": source.epoch,
                    "servers": sorted(source.servers),
                    "tables": sorted(source.tables),
                }
                for source in self.sources
            ],
            "asked": {digest: sorted(servers) for digest, servers in self.asked.items()},
        }

    @classmethod
    def decode(cls, value: Any) -> Standing:
        """Return the value from what `encode` gave. Raises ValueError for anything else."""
        try:
            order(value["last_id"])
            position = Position(value["last_id"], int(value["added"]), str(value["history"]))
            sources = tuple([_vouched(source) for source in value["sources"]])
            asked = {
                str(digest): frozenset(map(str, servers))
                for digest, servers in value["asked"].items()
            }
            return cls(str(value["stream"]), position, sources, asked)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise ValueError(f"no place in a stream: {error!r}") from None


def _vouched(value: Any) -> Vouched:
    host, run, database = map(str, value["name"])
    servers, tables = (frozenset(map(str, value[name])) for name in ("servers", "tables"))
    return Vouched((host, run, database), int(value["epoch"]), servers, tables)
