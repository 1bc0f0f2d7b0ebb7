"""A private MariaDB: own data directory, own socket, optional loopback port, quick and forgetful settings.

    with MariaDB(directory) as server:
        server.run_sql("CREATE DATABASE mail")
        server.grant("mail", "secret", "mail")
        server.count_selects("mail")        # how many SELECTs that account has sent (general log)

As root the server runs as the account mysql (mariadbd refuses root). The directory must be one that
this account may enter: `private_directory()` makes one, with a path short enough for UNIX sockets.
"""

from __future__ import annotations

import fcntl
import os
import pwd
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from support.process import ServerFailed, ServerProcess, free_port, program
from support.sql_server import SqlServer

PACKAGE = "mariadb-server"
SERVER_ACCOUNT = "mysql"

# Durability is of no use to a test; the sizes keep ten servers within a small machine's memory.
FAST_SETTINGS = (
    "--innodb-flush-log-at-trx-commit=2",  # written, not synced: survives a killed server, which tests make
    "--innodb-flush-method=nosync",
    "--innodb-doublewrite=OFF",
    "--innodb-buffer-pool-size=16M",
    "--innodb-log-file-size=4M",
    "--key-buffer-size=1M",
    "--aria-pagecache-buffer-size=1M",
    "--table-open-cache=200",
    "--max-connections=300",
    "--performance-schema=OFF",
    "--skip-log-bin",
    "--skip-name-resolve",
    "--skip-ssl",
)


@contextmanager
def private_directory(prefix: str = "mmd-") -> Iterator[Path]:
    """Make a directory below the system's temporary one that every account may enter, and remove it afterwards."""
    path = Path(tempfile.mkdtemp(prefix=prefix))
    path.chmod(0o755)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def data_template() -> Path:
    """Return a fresh data directory to copy from, made once per machine and MariaDB version."""
    version = subprocess.run(
        [program("mariadbd", PACKAGE), "--no-defaults", "--version"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    found = re.search(r"Ver (\S+)", version)
    parent = Path(tempfile.gettempdir()) / f"mailmapd-tests-{os.getuid()}"
    parent.mkdir(mode=0o700, exist_ok=True)
    if parent.stat().st_uid != os.getuid() or parent.is_symlink():
        raise ServerFailed(f"{parent} belongs to someone else: remove it")
    template = parent / f"mariadb-{found.group(1) if found else 'unknown'}"
    with (parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not template.exists():
            _install(template)
    return template


def _install(template: Path) -> None:
    """Create a data directory with the account root, no password, no test database."""
    with private_directory() as scratch:
        data = scratch / "data"
        if os.getuid() == 0:
            shutil.chown(scratch, SERVER_ACCOUNT)
        command = [
            program("mariadb-install-db", PACKAGE),
            "--no-defaults",
            f"--datadir={data}",
            "--skip-test-db",
            "--innodb-log-file-size=4M",
        ]
        command += ["--auth-root-authentication-method=normal", *_account_option()]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise ServerFailed(f"mariadb-install-db failed:\n{done.stdout}\n{done.stderr}")
        _copy(data, template.with_suffix(".new"))
        template.with_suffix(".new").rename(template)


def _copy(source: Path, target: Path) -> None:
    shutil.rmtree(target, ignore_errors=True)
    subprocess.run(["cp", "-a", "--sparse=always", str(source), str(target)], check=True)


def _account_option() -> list[str]:
    """Return the option that makes mariadbd leave root, which it refuses to run as."""
    if os.getuid() != 0:
        return []
    try:
        pwd.getpwnam(SERVER_ACCOUNT)
    except KeyError:
        raise ServerFailed(
            f"the account {SERVER_ACCOUNT} is missing: apt-get install {PACKAGE}"
        ) from None
    return [f"--user={SERVER_ACCOUNT}"]


class MariaDB(SqlServer):
    """A running private server; `socket` is its UNIX socket, `port` its port on 127.0.0.1 (0 without `tcp`).

    `settings` are further mariadbd options such as ``--sql-mode=ANSI_QUOTES``. `tls` is (ca,
    certificate, key) in PEM files.
    """

    def __init__(
        self,
        directory: Path,
        *,
        tcp: bool = False,
        port: int = 0,
        sql_mode: str | None = None,
        charset: str = "utf8mb4",
        collation: str = "utf8mb4_general_ci",
        tls: tuple[Path, Path, Path] | None = None,
        settings: Sequence[str] = (),
    ) -> None:
        super().__init__("MariaDB", directory, port or (free_port() if tcp else 0))
        self._data = directory / "data"
        self._log = directory / "mariadb.log"
        self._options = [
            f"--character-set-server={charset}",
            f"--collation-server={collation}",
            *settings,
        ]
        if sql_mode is not None:
            self._options.append(f"--sql-mode={sql_mode}")
        if tls is not None:
            ca, certificate, key = tls
            self._options += [
                f"--ssl-ca={ca}",
                f"--ssl-cert={certificate}",
                f"--ssl-key={key}",
                "--ssl",
            ]

    def start(self) -> None:
        """Start the server (again, on the same data, socket and port) and wait until it answers."""
        if not self._data.exists():
            _copy(data_template(), self._data)
            if os.getuid() == 0:
                shutil.chown(self.directory, SERVER_ACCOUNT)
        network = (
            [f"--port={self.port}", "--bind-address=127.0.0.1"]
            if self.port
            else ["--skip-networking"]
        )
        command = [
            *[
                program("mariadbd", PACKAGE),
                "--no-defaults",
                *_account_option(),
                f"--datadir={self._data}",
                f"--socket={self.socket}",
            ],
            *[
                f"--pid-file={self.directory / 'mariadbd.pid'}",
                *network,
                *FAST_SETTINGS,
                *self._options,
                "--log-output=TABLE",
            ],
            # A server that starts deletes every temporary table in its folder, also those of its
            # neighbours
            f"--tmpdir={self.directory}",
        ]
        self._process = ServerProcess(command, self._log)
        self._process.wait_ready(self.answers, "mariadbd")

    def grant(
        self, user: str, password: str, database: str, privileges: str = "SELECT, EXECUTE"
    ) -> None:
        """Create an account that may read one database, from everywhere."""
        for host in ("localhost", "127.0.0.1"):
            self.run_sql(f"CREATE OR REPLACE USER '{user}'@'{host}' IDENTIFIED BY %s", password)
            self.run_sql(f"GRANT {privileges} ON `{database}`.* TO '{user}'@'{host}'")
