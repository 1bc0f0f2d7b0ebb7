"""What the containers of compose.yaml read, together and for real, but without an engine: schema,
account, secret and configuration.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from support.compose import compose
from support.daemon import Daemon
from support.guide import PROJECT, commands, page, section
from support.mariadb import MariaDB, private_directory

pytestmark = pytest.mark.servers
CONTAINER = -2  # the section of docs/install.md before the last


def test_database_account_and_configuration_fit(tmp_path: Path) -> None:
    """A fresh MariaDB that has read what compose.yaml gives it lets in the daemon that has the
    sample configuration as docs/install.md changes it.
    """
    mounts = [mount.split(":") for mount in compose()["services"]["mariadb"]["volumes"]]
    scripts = sorted(
        (place, PROJECT / source)
        for source, place, *_ in mounts
        if place.startswith("/docker-entrypoint-initdb.d/")
    )
    [change] = [
        line
        for block in commands(section(page("install"), 2, CONTAINER))
        for line in block.splitlines()
        if line.startswith("sed ")
    ]
    (tmp_path / "mail-db-password").write_text("0123456789abcdef\n")
    file = tmp_path / "mailmapd.toml"
    subprocess.run(
        ["sh", "-ec", change.replace("/etc/mailmapd", str(tmp_path))], cwd=PROJECT, check=True
    )
    with private_directory() as folder, MariaDB(folder) as database:
        as_root = f"mariadb --no-defaults --user=root --socket={database.socket}"
        for place, script in scripts:
            if place.endswith(".sql"):
                database.run_sql(script.read_text())
            else:
                # The image's entrypoint reads it into its own shell, where this is a function.
                text = script.read_text().replace("/run/secrets", str(tmp_path))
                function = f'docker_process_sql() {{ {as_root} "$@"; }}\n'
                subprocess.run(["bash", "-euo", "pipefail", "-c", function + text], check=True)
        database.run_sql(
            "INSERT INTO virtual_email.email_user"
            " VALUES ('you', 'you@example.com', '{CRYPT}x', 'example.com', 'example.com/you/')"
        )
        moved = {
            "/var/spool/postfix/mailmapd": str(tmp_path),
            "/run/mysqld/mysqld.sock": str(database.socket),
        }
        config = file.read_text()
        for old, new in moved.items():
            assert old in config
            config = config.replace(old, new)
        with Daemon(tmp_path, config) as daemon, daemon.socketmap() as client:
            found = client.lookup("virtual_mailbox_maps", b"you@example.com")
            assert found == b"example.com/you/"
