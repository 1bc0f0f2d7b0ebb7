"""A private MySQL or MariaDB server under a test's control: what both have in common once they are started."""

from __future__ import annotations

import re
import signal
import socket
from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pymysql
from pymysql.constants import CLIENT

from support.process import ServerFailed, ServerProcess


class SqlServer(ABC):
    """A server in `directory`; `socket` is its UNIX socket, `port` its port on 127.0.0.1 (0 for none)."""

    def __init__(self, name: str, directory: Path, port: int) -> None:
        self.directory = directory
        self.socket = directory / "mysql.sock"
        self.port = port
        self._name = name
        self._process: ServerProcess | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()

    @abstractmethod
    def start(self) -> None:
        """Start the server (again, on the same data, socket and port) and wait until it answers."""

    @abstractmethod
    def grant(
        self, user: str, password: str, database: str, privileges: str = "SELECT, EXECUTE"
    ) -> None:
        """Create an account that may read one database, from everywhere."""

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
            raise ServerFailed(f"this {self._name} was not started")
        return self._process

    def connect(
        self, database: str | None = None, **options: Any
    ) -> pymysql.connections.Connection[Any]:
        """Open a connection of PyMySQL as root over the UNIX socket; `options` override PyMySQL's arguments."""
        arguments: dict[str, Any] = {
            "unix_socket": str(self.socket),
            "user": "root",
            "database": database,
            "charset": "utf8mb4",
            "ssl_disabled": True,  # or each connection reads all authorities' certificates, 25 ms
        }
        arguments |= {
            "autocommit": True,
            "client_flag": CLIENT.MULTI_STATEMENTS,
            "connect_timeout": 5,
        }
        return pymysql.connect(**(arguments | options))

    def run_sql(
        self, sql: str, *values: object, database: str | None = None
    ) -> list[tuple[Any, ...]]:
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

    def log_queries(self, on: bool = True) -> None:
        """Switch the general log on (emptied) or off."""
        self.run_sql("SET GLOBAL general_log = OFF; TRUNCATE TABLE mysql.general_log")
        if on:
            self.run_sql("SET GLOBAL general_log = ON")

    def logged_queries(self, user: str) -> list[str]:
        """Return the statements that the account has sent since `log_queries`, in order."""
        rows = self.run_sql(
            "SELECT argument FROM mysql.general_log WHERE command_type IN ('Query', 'Execute') AND user_host LIKE %s",
            f"{user}[%",
        )
        return [
            bytes(row[0]).decode(errors="backslashreplace")
            if isinstance(row[0], bytes)
            else str(row[0])
            for row in rows
        ]

    def count_selects(self, user: str) -> int:
        """Return how many SELECTs and CALLs the account has sent since `log_queries`."""
        return sum(
            1
            for text in self.logged_queries(user)
            if re.match(r"[\s(]*(SELECT|CALL)\b", text, re.IGNORECASE)
        )

    def connections(self, user: str) -> list[int]:
        """Return the ids of the account's open connections."""
        return [
            row[0]
            for row in self.run_sql(
                "SELECT id FROM information_schema.processlist WHERE user = %s", user
            )
        ]

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
