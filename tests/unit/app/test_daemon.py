from __future__ import annotations

import asyncio
from pathlib import Path

from mailmapd.app.daemon import Daemon
from mailmapd.app.service_manager import ServiceManager
from mailmapd.app.sockets import SocketSet
from mailmapd.config.loader import load_config
from support.polling import until

CONFIG = """
[listen]
socketmap = ["unix:{folder}/socketmap"]
[limits]
drain_timeout = "100ms"
[database.mail]
driver = "sqlite"
path = "{folder}/mail.sqlite"
[table.alias]
database = "mail"
query = "SELECT destination FROM alias WHERE address = '%s'"
[table.mailbox]
database = "mail"
query = "SELECT maildir FROM mailbox WHERE address = '%s'"
[map.aliases]
tables = ["alias"]
[map.boxes]
tables = ["mailbox"]
"""
ENTRIES = 5000


async def test_reload_keeps_and_frees(short_path: Path) -> None:
    """A reload keeps the cache of a table that did not change, and frees that of a changed one once its lookups have had their time."""
    file = short_path / "mailmapd.toml"
    file.write_text(CONFIG.format(folder=short_path))
    daemon = Daemon(load_config(str(file)), SocketSet({}), ServiceManager())
    running = asyncio.create_task(daemon.run())
    await until(lambda: bool(list(daemon.listeners)))
    kept, changed = daemon.engine.tables["alias"], daemon.engine.tables["mailbox"]
    for table in (kept, changed):
        for number in range(ENTRIES):
            table.cache.store(b"user%d@example.com" % number, b"value", 0.0)
    file.write_text(file.read_text().replace("SELECT maildir", "SELECT home"))
    await daemon.reload()
    assert not daemon.reload_failed
    assert daemon.engine.tables["alias"] is kept
    assert daemon.engine.tables["mailbox"] is not changed
    assert len(changed.cache.rows) == ENTRIES
    await until(lambda: not changed.cache.keys())
    assert len(kept.cache.rows) == ENTRIES
    daemon._stop.set()
    await running
