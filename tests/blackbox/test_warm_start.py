"""Restarts of the daemon as a process, with a state directory.

Warm after an orderly end, unharmed by whatever the directory holds.
"""

from __future__ import annotations

import signal
import sqlite3
from pathlib import Path

import pytest

from support.daemon import Daemon
from support.process import free_port, wait_until

CONFIG = """
[listen]
socketmap = ["unix:{folder}/socketmap"]
http = "127.0.0.1:{http}"
control = "unix:{folder}/control"
[state]
directory = "state"
save_interval = "200ms"
[database.mail]
driver = "sqlite"
path = "{folder}/mail.sqlite"
[table.alias]
database = "mail"
query = "SELECT destination FROM alias WHERE address = '%s'"
[map.aliases]
tables = ["alias"]
"""


@pytest.fixture
def folder(short_path: Path) -> Path:
    connection = sqlite3.connect(short_path / "mail.sqlite")
    connection.executescript(
        "CREATE TABLE alias (address PRIMARY KEY, destination); INSERT INTO alias VALUES ('info@example.com', 'user');"
    )
    connection.close()
    (short_path / "state").mkdir()
    return short_path


def config(folder: Path) -> str:
    return CONFIG.format(folder=folder, http=free_port())


def ask(daemon: Daemon) -> str:
    with daemon.socketmap() as client:
        return client.ask("aliases", b"info@example.com").status


def test_warm_after_a_restart(folder: Path) -> None:
    """What was known before an orderly end is known after the next start, although the database is away."""
    with Daemon(folder, config(folder)) as daemon:
        assert ask(daemon) == "OK"
        assert daemon.stop() == 0
        assert "state: 1 entries saved" in daemon.text()
        (folder / "mail.sqlite").rename(folder / "elsewhere")
        daemon.start()
        wait_until(lambda: "state: 1 entries loaded" in daemon.text(), "the saved cache")
        assert ask(daemon) == "OK"


def test_warm_after_a_crash(folder: Path) -> None:
    """What was saved now and then survives a crash; but not what was flushed before the crash."""
    with Daemon(folder, config(folder)) as daemon:
        assert ask(daemon) == "OK"
        wait_until(lambda: "state: 1 entries saved" in daemon.text(), "a save")
        daemon.process.stop(signal.SIGKILL)
        (folder / "mail.sqlite").rename(folder / "elsewhere")
        daemon.write_config(daemon.config.read_text().replace("200ms", "1h"))
        daemon.start()
        wait_until(lambda: "state: 1 entries loaded" in daemon.text(), "the saved cache")
        assert ask(daemon) == "OK"
        assert daemon.command("flush", "--user", "info@example.com").returncode == 0
        daemon.process.stop(signal.SIGKILL)
        daemon.start()
        wait_until(
            lambda: "there is no saved cache" in daemon.text(), "the start without a saved cache"
        )
        assert ask(daemon) == "TEMP"


def test_damaged_file(folder: Path) -> None:
    """A damaged file is named, set aside and ignored, and replaced by a sound one at the end."""
    (folder / "state" / "cache").write_bytes(b"mailmapd cache\n\1 and then nothing of use")
    (folder / "state" / "cache").chmod(0o600)
    with Daemon(folder, config(folder)) as daemon:
        wait_until(
            lambda: "it is ignored, and set aside as cache.bad" in daemon.text(),
            "the word about the damaged file",
        )
        assert ask(daemon) == "OK"
    assert (folder / "state" / "cache.bad").read_bytes().endswith(b"nothing of use")
    assert (folder / "state" / "cache").read_bytes().startswith(b"mailmapd cache\n")


def test_no_directory(folder: Path) -> None:
    """Without its directory the daemon serves, says what it misses, and ends with status 0."""
    (folder / "state").rmdir()
    with Daemon(folder, config(folder)) as daemon:
        wait_until(
            lambda: "state: the cache is not saved" in daemon.text(), "the word about the directory"
        )
        assert "state is missing or read-only, so caches cannot be saved" in daemon.text()
        assert "No such file or directory" in daemon.text()
        assert ask(daemon) == "OK"
        assert daemon.stop() == 0


def test_preload(folder: Path) -> None:
    """A preloaded table answers from memory from the start; so does one that a reload brings."""
    with Daemon(folder, config(folder)) as daemon:

        def preloaded(times: int) -> None:
            wait_until(
                lambda: daemon.text().count("table alias: 1 keys preloaded") == times,
                f"preload number {times}",
            )

        text = daemon.config.read_text().replace(
            "[map.", 'preload = "SELECT address, destination FROM alias"\n[map.'
        )
        daemon.write_config(text)
        daemon.process.send_signal(signal.SIGHUP)
        preloaded(1)
        daemon.stop()
        (folder / "state" / "cache").unlink()
        daemon.start()
        preloaded(2)
        (folder / "mail.sqlite").rename(folder / "elsewhere")
        assert ask(daemon) == "OK"
        (folder / "elsewhere").rename(folder / "mail.sqlite")
        daemon.write_config(text.replace("FROM alias WHERE", "FROM alias AS a WHERE"))
        daemon.process.send_signal(signal.SIGHUP)
        preloaded(3)
