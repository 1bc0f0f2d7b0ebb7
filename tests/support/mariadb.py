"""A private MariaDB: own data directory, own socket, optional loopback port, quick and forgetful settings.

    with MariaDB(directory) as server:
        server.run_sql("CREATE DATABASE mail")
        server.grant("mail", "secret", "mail")
        server.count_selects("mail")        # how many SELECTs that account has sent (general log)

As root the server runs as the account mysql (mariadbd refuses root). The directory must be one that this account may enter:
`private_directory()` makes one, with a path short enough for UNIX sockets.
"""

from __future__ import annotations

import fcntl
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pymysql
from pymysql.constants import CLIENT

from support.process import ServerFailed, ServerProcess, free_port, program

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
        [program("mariadbd", PACKAGE), "--no-defaults", "--version"], check=True, capture_output=True, text=True
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
        raise ServerFailed(f"the account {SERVER_ACCOUNT} is missing: apt-get install {PACKAGE}") from None
    return [f"--user={SERVER_ACCOUNT}"]


class MariaDB:
    """A running private server; `socket` is its UNIX socket, `port` its port on 127.0.0.1 (0 without `tcp`).

    `settings` are further mariadbd options such as ``--sql-mode=ANSI_QUOTES``. `tls` is (ca, certificate, key) in PEM files.
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
        self.directory = directory
        self.socket = directory / "mysql.sock"
        self.port = port or (free_port() if tcp else 0)
        self._data = directory / "data"
        self._log = directory / "mariadb.log"
        self._options = [f"--character-set-server={charset}", f"--collation-server={collation}", *settings]
        if sql_mode is not None:
            self._options.append(f"--sql-mode={sql_mode}")
        if tls is not None:
            ca, certificate, key = tls
            self._options += [f"--ssl-ca={ca}", f"--ssl-cert={certificate}", f"--ssl-key={key}", "--ssl"]
        self._process: ServerProcess | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.kill()

    def start(self) -> None:
        """Start the server (again, on the same data, socket and port) and wait until it answers."""
        if not self._data.exists():
            _copy(data_template(), self._data)
            if os.getuid() == 0:
                shutil.chown(self.directory, SERVER_ACCOUNT)
        network = [f"--port={self.port}", "--bind-address=127.0.0.1"] if self.port else ["--skip-networking"]
        command = [
            *[program("mariadbd", PACKAGE), "--no-defaults", *_account_option(), f"--datadir={self._data}", f"--socket={self.socket}"],
            *[f"--pid-file={self.directory / 'mariadbd.pid'}", *network, *FAST_SETTINGS, *self._options, "--log-output=TABLE"],
            f"--tmpdir={self.directory}",  # a server that starts deletes every temporary table in its folder, also those of its neighbours
        ]
        self._process = ServerProcess(command, self._log)
        self._process.wait_ready(self.answers, "mariadbd")

    def answers(self) -> bool:
        """Tell whether the server accepts logins."""
        with socket.socket(socket.AF_UNIX) as probe:
            # Asked first, because PyMySQL leaves the socket of a refused connection to the collector, which warns.
            if probe.connect_ex(str(self.socket)) != 0:
                return False
        try:
            self.connect().close()
        except pymysql.err.OperationalError:
            return False
        return True

    def stop(self) -> None:
        """Shut the server down in order."""
        self.process.stop()

    def kill(self) -> None:
        """End the server at once, as a crash would; safe when it has ended already."""
        if self._process is not None:
            self._process.stop(signal.SIGKILL)

    def restart(self) -> None:
        """Stop the server and start it on the same data."""
        self.stop()
        self.start()

    def pause(self) -> None:
        """Freeze the server: connections stay open, nothing is answered."""
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a frozen server go on."""
        self.process.send_signal(signal.SIGCONT)

    @property
    def process(self) -> ServerProcess:
        """The server's process; fails when the server was never started."""
        if self._process is None:
            raise ServerFailed("this MariaDB was not started")
        return self._process

    def connect(self, database: str | None = None, **options: Any) -> pymysql.connections.Connection[Any]:
        """Open a connection of PyMySQL as root over the UNIX socket; `options` override PyMySQL's arguments."""
        arguments: dict[str, Any] = {"unix_socket": str(self.socket), "user": "root", "database": database, "charset": "utf8mb4"}
        arguments |= {"autocommit": True, "client_flag": CLIENT.MULTI_STATEMENTS, "connect_timeout": 5}
        return pymysql.connect(**(arguments | options))

    def run_sql(self, sql: str, *values: object, database: str | None = None) -> list[tuple[Any, ...]]:
        """Run one or more statements as root and return the rows of the last one; `%s` in the text takes `values`."""
        connection = self.connect(database)
        try:
            with connection.cursor() as cursor:
                cursor.execute(sql, values or None)
                rows = list(cursor.fetchall())
                while cursor.nextset():
                    rows = list(cursor.fetchall())
                return rows
        finally:
            connection.close()

    def grant(self, user: str, password: str, database: str, privileges: str = "SELECT, EXECUTE") -> None:
        """Create an account that may read one database, from everywhere."""
        for host in ("localhost", "127.0.0.1"):
            self.run_sql(f"CREATE OR REPLACE USER '{user}'@'{host}' IDENTIFIED BY %s", password)
            self.run_sql(f"GRANT {privileges} ON `{database}`.* TO '{user}'@'{host}'")

    def log_queries(self, on: bool = True) -> None:
        """Switch the general log on (emptied) or off."""
        self.run_sql("SET GLOBAL general_log = OFF; TRUNCATE TABLE mysql.general_log")
        if on:
            self.run_sql("SET GLOBAL general_log = ON")

    def logged_queries(self, user: str) -> list[str]:
        """Return the statements that the account has sent since `log_queries`, in order."""
        rows = self.run_sql(
            "SELECT argument FROM mysql.general_log WHERE command_type IN ('Query', 'Execute') AND user_host LIKE %s", f"{user}[%"
        )
        return [bytes(row[0]).decode(errors="backslashreplace") if isinstance(row[0], bytes) else str(row[0]) for row in rows]

    def count_selects(self, user: str) -> int:
        """Return how many SELECTs and CALLs the account has sent since `log_queries`."""
        return sum(1 for text in self.logged_queries(user) if re.match(r"[\s(]*(SELECT|CALL)\b", text, re.IGNORECASE))

    def connections(self, user: str) -> list[int]:
        """Return the ids of the account's open connections."""
        return [row[0] for row in self.run_sql("SELECT id FROM information_schema.processlist WHERE user = %s", user)]

    def kill_connections(self, user: str) -> None:
        """Cut every open connection of the account."""
        connection = self.connect()
        for identity in self.connections(user):
            try:
                connection.query(f"KILL {identity}")
            except pymysql.err.OperationalError as error:
                if error.args[0] != 1094:  # ER_NO_SUCH_THREAD: it has gone by itself
                    raise
        connection.close()

    def accepts_tcp(self) -> bool:
        """Tell whether the port accepts connections."""
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0
