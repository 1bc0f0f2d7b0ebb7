"""configs/fleet, run for real but without containers: its scripts, its options, its configurations, its probes.

Only what one machine cannot have twice is changed: addresses, folders, and the names of the hosts.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from support.daemon import Daemon
from support.guide import PROJECT
from support.mariadb import MariaDB, private_directory
from support.process import free_port, wait_until
from support.valkey import Valkey, server_program

pytestmark = [pytest.mark.servers, pytest.mark.root]

FOLDER = PROJECT / "configs" / "fleet"
KEY = "info@example.com"


def services() -> dict[str, Any]:
    """Return the services of the compose file."""
    found: dict[str, Any] = yaml.safe_load((FOLDER / "compose.yml").read_text())["services"]
    return found


class Example:
    """The services of the compose file, as processes of this machine."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder = folder
        self.secrets = folder / "secrets"
        self._stack = stack
        self._make_secrets()
        self.valkey = self._start_valkey()
        self.db1 = self._start_database("db1")
        self._run_script()
        self.db2 = self._start_database("db2")
        self._replicate()
        self.daemons = {name: self._daemon(name) for name in ("mx1", "mx2", "mx3")}
        for daemon in self.daemons.values():
            stack.enter_context(daemon)
        wait_until(self.watches, "mx3 is told nothing")

    def watches(self) -> bool:
        """Tell whether the third host keeps its table for long, because both of the others vouch for it."""
        metrics = self.daemons["mx3"].metrics()
        watched = metrics.get('mailmapd_cluster_watched_tables{database="mail"}') == 1
        return watched and metrics["mailmapd_cluster_followers"] == 2

    def _make_secrets(self) -> None:
        """Run the lines at the top of the compose file that are not Docker's."""
        text = (FOLDER / "compose.yml").read_text()
        commands = re.findall(r"^#   (.+)$", text, re.MULTILINE)
        lines = [command for command in commands if not command.startswith("docker ")]
        assert lines[0] == "mkdir -m 700 secrets"
        subprocess.run(["sh", "-ec", "\n".join(lines)], cwd=self.folder, check=True)

    def _start_valkey(self) -> Valkey:
        """Start Valkey by the script that its container is told to run."""
        assert services()["valkey"]["command"] == ["sh", "/etc/mailmapd/valkey.sh"]
        tools = self.folder / "tools"
        tools.mkdir()
        (tools / "valkey-server").symlink_to(server_program("valkey"))
        script = (FOLDER / "valkey.sh").read_text().replace("/tmp/users.acl", f"{tools}/users.acl")
        (tools / "valkey.sh").write_text(script)
        launcher = tools / "launcher"
        launcher.write_text(
            f"#!/bin/sh\nexport PATH={tools}:$PATH SECRETS={self.secrets}\n"
            f'exec sh {tools}/valkey.sh "$@"\n'
        )
        launcher.chmod(0o755)
        server = Valkey(self.folder / "valkey", tcp=True)
        server._program = str(launcher)
        return self._stack.enter_context(server)

    def _start_database(self, name: str) -> MariaDB:
        folder = self._stack.enter_context(private_directory())
        settings = services()[name]["command"]
        return self._stack.enter_context(MariaDB(folder, tcp=True, settings=settings))

    def _run_script(self) -> None:
        """Have db1 read what its container reads when it makes its data."""
        as_root = f"mariadb --no-defaults --user=root --socket={self.db1.socket}"
        function = f'docker_process_sql() {{ {as_root} "$@"; }}\nSECRETS={self.secrets}\n'
        text = function + (FOLDER / "mariadb.sh").read_text()
        subprocess.run(["bash", "-euo", "pipefail", "-c", text], check=True)

    def _replicate(self) -> None:
        """Do what the image does for MARIADB_REPLICATION_USER, on db1, and for MARIADB_MASTER_HOST, on db2."""
        user = services()["db2"]["environment"]["MARIADB_REPLICATION_USER"]
        password = (self.secrets / "mail-db-replication").read_text()
        self.db1.run_sql(f"CREATE USER {user}@'%%' IDENTIFIED BY %s", password)
        self.db1.run_sql(f"GRANT REPLICATION REPLICA ON *.* TO {user}@'%'")
        self.db2.run_sql(
            f"CHANGE MASTER TO MASTER_HOST='127.0.0.1', MASTER_USER='{user}',"
            f" MASTER_PASSWORD='{password}', MASTER_PORT={self.db1.port},"
            " MASTER_USE_GTID=slave_pos; START SLAVE"
        )
        wait_until(self._is_replicated, "db2 gets nothing")

    def _is_replicated(self) -> bool:
        accounts = "SELECT COUNT(*) FROM mysql.global_priv WHERE user LIKE 'mail%'"
        return bool(self.db2.run_sql(accounts)[0][0] == 2)

    def _daemon(self, name: str) -> Daemon:
        service = services()[name]
        own = self.folder / name
        own.mkdir()
        text = (FOLDER / Path(service["command"][-1]).name).read_text()
        moved = {
            "db1:3306": f"127.0.0.1:{self.db1.port}",
            "db2:3306": f"127.0.0.1:{self.db2.port}",
            "@valkey:6379": f"@127.0.0.1:{self.valkey.port}",
            "/run/mailmapd": str(own),
            "127.0.0.1:9780": f"127.0.0.1:{free_port()}",
            "[cluster]\n": f'[cluster]\nhost = "{service["hostname"]}"\n',
            "[listen]\n": f'[listen]\ncontrol = "unix:{own}/control"\n',
        }
        for old, new in moved.items():
            assert old in text
            text = text.replace(old, new)
        # What a container has below /run/secrets, and no more; there it belongs to who runs mailmapd, as here.
        given = own / "credentials"
        given.mkdir()
        for secret in service["secrets"]:
            shutil.copy(self.secrets / secret, given)  # which keeps the mode
        assert service["environment"] == {"CREDENTIALS_DIRECTORY": "/run/secrets"}
        return Daemon(own, text, environment={"CREDENTIALS_DIRECTORY": str(given)})

    def ask(self, name: str) -> str:
        """Return what a daemon says of the key; nothing when it is not there."""
        with self.daemons[name].socketmap() as client:
            return (client.lookup("virtual_alias_maps", KEY.encode()) or b"").decode()

    def is_told(self, name: str) -> bool:
        """Return whether a daemon heard of no key for longer than a page of metrics is kept."""
        counts = []
        for _ in range(2):
            metrics = self.daemons[name].metrics()
            counts.append(metrics['mailmapd_invalidations_total{grade="key",table="alias"}'])
            time.sleep(1.2)
        return counts[0] == counts[1]

    def change(self, value: str) -> None:
        """Change the row on the primary."""
        self.db1.run_sql("REPLACE INTO mail.alias VALUES (%s, %s)", KEY, value)


@pytest.fixture(scope="module")
def example() -> Iterator[Example]:
    with ExitStack() as stack:
        yield Example(stack.enter_context(private_directory()), stack)


def test_check(example: Example) -> None:
    """`mailmapd check` has nothing to say of what an administrator would copy."""
    for name, daemon in example.daemons.items():
        done = daemon.command("check")
        assert done.returncode == 0, f"{name}: {done.stdout}{done.stderr}"


def test_forget_together(example: Example) -> None:
    """The third host, which follows nothing, keeps its table for long, and forgets with the other two."""
    assert [example.ask(name) for name in example.daemons] == ["", "", ""]
    for value in ("first", "second"):
        example.change(value)
        wait_until(
            lambda value=value: [example.ask(name) for name in example.daemons] == [value] * 3,  # type: ignore[misc]
            "a change is not told",
            20,
        )
    done = example.daemons["mx3"].command("flush", "--user", KEY, "--wait", "10s")
    assert done.stdout.splitlines()[-1] == "confirmed by every host"


def commands() -> list[list[str]]:
    """Return the commands of every probe and health check for mailmapd."""
    documents = list(yaml.safe_load_all((FOLDER / "kubernetes.yml").read_text()))
    [container] = [
        container
        for document in documents
        if document["kind"] == "StatefulSet"
        for container in document["spec"]["template"]["spec"]["containers"]
        if container["image"] == "mailmapd"
    ]
    probes = [container[kind]["exec"]["command"] for kind in ("livenessProbe", "readinessProbe")]
    return [*probes, services()["mx1"]["healthcheck"]["test"][1:]]


def test_probes(example: Example) -> None:
    """What the probes ask is answered, and still is when Valkey and both databases are away."""

    def statuses() -> list[int]:
        address = example.daemons["mx3"].listeners["http"]
        found = []
        for command in commands():
            told = [word.replace("127.0.0.1:9780", address) for word in command]
            assert told[0] == "python"
            assert told != command
            done = subprocess.run([sys.executable, *told[1:]], capture_output=True, check=False)
            found.append(done.returncode)
        return found

    assert statuses() == [0, 0, 0]
    example.change("kept")
    wait_until(lambda: example.ask("mx3") == "kept", "a change is not told", 20)
    # Both followers tell of it, and the second word makes the host ask once more.
    wait_until(lambda: example.is_told("mx3"), "words do not end", 20)
    assert example.ask("mx3") == "kept"
    example.valkey.pause()
    for database in (example.db1, example.db2):
        database.process.stop()
    assert statuses() == [0, 0, 0]
    assert example.ask("mx3") == "kept"
    example.valkey.resume()


def test_kind_by_name() -> None:
    """In Kubernetes the first two follow, whatever the set is called, and all others read."""
    text = (FOLDER / "kubernetes.yml").read_text()
    script = next(line.strip() for line in text.splitlines() if line.strip().startswith("case "))
    for host, kind in (
        ("mailmapd-0", "follower"),
        ("a-1", "follower"),
        ("a-2", "reader"),
        ("a-10", "reader"),
    ):
        done = subprocess.run(
            ["sh", "-ec", f"{script}; echo $kind"],
            env=os.environ | {"HOSTNAME": host},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.strip() == kind, shlex.quote(host)
