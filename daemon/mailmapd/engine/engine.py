"""The engine: everything that answers, built from one configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mailmapd.databases.interface import Database
from mailmapd.engine.dicts.dict import Dict
from mailmapd.engine.maps.map import Map
from mailmapd.engine.table import Table


@dataclass(frozen=True)
class Engine:
    """Databases, tables, maps and dicts by their configured names."""

    databases: Mapping[str, Database]
    tables: Mapping[str, Table]
    maps: Mapping[str, Map]
    dicts: Mapping[str, Dict]

    async def close(self) -> None:
        """Close every database."""
        for database in self.databases.values():
            await database.close()
