"""A database host given by name, when the name comes to mean another address.

The C library's own resolver, with a private hosts file.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from support.daemon import Daemon
from support.mariadb import MariaDB, private_directory

WRAPPER = next(Path("/usr/lib").glob("*/libnss_wrapper.so"), None)
"""The nss_wrapper library, preloaded: lookups of host names read NSS_WRAPPER_HOSTS in place of /etc/hosts."""
USER, PASSWORD = "reader", "geheim"
RECOVERY_SECONDS = 10.0

pytestmark = [
    pytest.mark.servers,
    pytest.mark.skipif(
        WRAPPER is None, reason="libnss_wrapper.so is not installed: apt-get install libnss-wrapper"
    ),
]


def fill(server: MariaDB, value: str) -> None:
    """Make every key mean one value."""
    server.run_sql("CREATE DATABASE mail")
    server.run_sql("CREATE TABLE answers (value varchar(255))", database="mail")
    server.run_sql("INSERT INTO answers VALUES (%s)", value, database="mail")
    server.grant(USER, PASSWORD, "mail")


def test_a_name_that_moves_is_followed(short_path: Path) -> None:
    """When the server moves and its name with it, lookups come from the new one by themselves, and
    none is "not found" on the way.
    """
    with (
        private_directory() as folder,
        private_directory() as other,
        MariaDB(folder, tcp=True) as first,
        MariaDB(other, port=first.port, settings=["--bind-address=127.0.0.2"]) as second,
    ):
        fill(first, "first")
        fill(second, "second")
        hosts = short_path / "hosts"
        hosts.write_text("127.0.0.1 db.example.test\n")
        os.utime(
            hosts, (1e9, 1e9)
        )  # nss_wrapper reads the file again when its time in whole seconds has changed
        config = f"""\
[listen]
socketmap = ["unix:{short_path}/socketmap"]
[database.mail]
driver = "mysql"
hosts = ["db.example.test:{first.port}"]
user = "{USER}"
password = "{PASSWORD}"
dbname = "mail"
[table.answers]
database = "mail"
query = "SELECT value FROM answers WHERE '%s' <> ''"
[map.answers]
tables = ["answers"]
[cache]
stale_ttl = "0s"
"""
        environment = {"LD_PRELOAD": str(WRAPPER), "NSS_WRAPPER_HOSTS": str(hosts)}
        with (
            Daemon(short_path, config, environment=environment) as daemon,
            daemon.socketmap() as client,
        ):
            assert client.ask("answers", b"before") == ("OK", b"first")
            hosts.write_text("127.0.0.2 db.example.test\n")
            first.kill()
            given_up = time.monotonic() + RECOVERY_SECONDS
            number = 0
            while (reply := client.ask("answers", b"after%d" % number)).status != "OK":
                assert reply.status == "TEMP"
                assert time.monotonic() < given_up, daemon.log.read_text()
                number += 1
                time.sleep(0.05)
            assert reply.value == b"second"
