"""Option files: what postmap's client library reads of one, and what we do."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest

from mailmapd.databases.mysql.account import check_option_file
from mailmapd.databases.settings import MysqlSettings
from mailmapd.errors import DatabaseError
from mailmapd.formats.postfix_cf import read_postfix_cf
from mailmapd.plan.databases import cf_settings
from support.mariadb import MariaDB, private_directory
from support.mysql_lookups import Connect, statement
from support.postfix import Postfix

pytestmark = [pytest.mark.servers, pytest.mark.root]

QUERY = "SELECT CONCAT_WS(' ', CURRENT_USER(), @@port, DATABASE(), @given)"
ACCOUNTS = ("one", "two", "t#o", "a\\b", "one # two")


class World(NamedTuple):
    """Two servers that know the same accounts, without passwords, and a Postfix to ask its own client library."""

    first: MariaDB
    second: MariaDB
    folder: Path
    postfix: Postfix

    def write(self, name: str, cf: str, options: str) -> Path:
        """Write a .cf file with an option file, and return its path."""
        places = {
            "ONE": str(self.first.port),
            "TWO": str(self.second.port),
            "SOCKET": str(self.second.socket),
            "FOLDER": str(self.folder),
        }
        for word, value in places.items():
            cf, options = cf.replace(word, value), options.replace(word, value)
        option_file, path = self.folder / f"{name}.cnf", self.folder / f"{name}.cf"
        option_file.write_text(options)
        path.write_text(f"{cf}\ndbname = first\noption_file = {option_file}\nquery = {QUERY}\n")
        os.utime(path, (0, 0))  # Postfix waits until a fresh file has settled
        return path


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with (
        private_directory() as folder,
        private_directory() as first,
        private_directory() as second,
        private_directory() as instance,
        MariaDB(first, tcp=True) as first_server,
        MariaDB(second, tcp=True) as second_server,
    ):
        for server in (first_server, second_server):
            server.run_sql("CREATE DATABASE first; CREATE DATABASE second")
            for account in ACCOUNTS:
                for host in ("localhost", "127.0.0.1"):
                    server.run_sql(f"CREATE USER %s@'{host}'", account)
                    server.run_sql(f"GRANT SELECT ON *.* TO %s@'{host}'", account)
        (folder / "inc.cnf").write_text("[client]\nuser = two\n")
        (folder / "conf.d").mkdir()
        (folder / "conf.d" / "my.cnf").write_text("[client]\ndatabase = second\n")
        (folder / "conf.d" / "x.cnf").write_text("[client]\nuser = two\n")
        yield World(first_server, second_server, folder, Postfix(instance, {}))


HOST = "hosts = 127.0.0.1:ONE"
NAMED = f"{HOST}\nuser = one"
OPTIONS = "[client]\nuser = one\ndatabase = first\n"
SAME = {
    "nothing": (NAMED, ""),
    "user and database": (HOST, OPTIONS),
    "the .cf file comes first": (NAMED, "[client]\nuser = two\ndatabase = second\n"),
    "port": ("hosts = 127.0.0.1", OPTIONS + "port = TWO\n"),
    "port of the .cf file": (HOST, OPTIONS + "port = TWO\n"),
    "port of the own group": (
        "hosts = 127.0.0.1\noption_group = own",
        f"[own]\nport = TWO\n{OPTIONS}port = ONE\n",
    ),
    "host": ("hosts = localhost", OPTIONS + "host = 127.0.0.1\nport = TWO\n"),
    "host and socket": (
        "hosts = localhost",
        OPTIONS + "host = 127.0.0.1\nport = ONE\nsocket = SOCKET\n",
    ),
    "socket": ("hosts = localhost", OPTIONS + "socket = SOCKET\n"),
    "socket and port": ("hosts = localhost", OPTIONS + "port = ONE\nsocket = SOCKET\n"),
    "named socket": ("hosts = unix:SOCKET", OPTIONS + "host = 127.0.0.1\nport = ONE\n"),
    "named host": (HOST, OPTIONS + "host = 127.0.0.9\nsocket = SOCKET\n"),
    "protocol": ("hosts = localhost", OPTIONS + "protocol = tcp\nport = TWO\nsocket = SOCKET\n"),
    "protocol for a named host": (HOST, OPTIONS + "protocol = socket\nsocket = SOCKET\n"),
    "group order": (f"{HOST}\noption_group = own", f"[own]\nuser = two\n{OPTIONS}"),
    "group order, own last": (f"{HOST}\noption_group = own", f"{OPTIONS}[own]\nuser = two\n"),
    "groups of the server": (HOST, f"{OPTIONS}[client-server]\nuser = two\n[mysqld]\nuser = x\n"),
    "groups of the library": (HOST, f"{OPTIONS}[client-mariadb]\nuser = two\n"),
    "other groups": (HOST, f"{OPTIONS}[mysql]\nuser = x\n[mariadb-client]\nuser = two\n"),
    "before any group": (f"{HOST}\nuser = one", "user = two\n[client]\nuser = two\n"),
    "twice": (HOST, f"{OPTIONS}user = two\n"),
    "quotes": (HOST, OPTIONS + 'user = "two"\n'),
    "a number sign": (HOST, OPTIONS + "user = t#o\n"),
    "a comment in the line": (HOST, OPTIONS + "user = one # two\n"),
    "a comment behind quotes": (HOST, OPTIONS + 'user = "two" # one\n'),
    "a backslash": (HOST, OPTIONS + "user = a\\\\b\n"),
    "an underscore": (HOST, OPTIONS + "unix_socket = /nowhere\nloose-user = two\n"),
    "blanks": (HOST, "[client]\n\tuser\t=\ttwo \n  database  = first\n; user = x\n# user = y\n"),
    "an included file": (HOST, f"{OPTIONS}!include FOLDER/inc.cnf\n"),
    "an included folder": (HOST, f"{OPTIONS}!includedir FOLDER/conf.d\n"),
    "an included file first": (HOST, f"!include FOLDER/inc.cnf\n{OPTIONS}"),
    "a blank before a group": (HOST, f"{OPTIONS}[ client]\nuser = two\n"),
    "a blank behind a group": (HOST, f"{OPTIONS}[client ]\nuser = two\n"),
    "text behind a group": (HOST, f"{OPTIONS}[client] # this\nuser = two\n"),
    "single quotes": (HOST, OPTIONS + "user = 'two'\n"),
    "one quote": (HOST, OPTIONS + 'user = "two\n'),
    "a quote at the end": (f"{HOST}\nuser = one", OPTIONS + 'database = second"\n'),
    "quotes in quotes": (HOST, OPTIONS + "user = '\"two'\n"),
    "other quotes": (HOST, OPTIONS + "user = \"two'\n"),
    "named socket and port": ("hosts = unix:SOCKET", OPTIONS + "port = ONE\n"),
    "named socket and localhost": ("hosts = unix:SOCKET", OPTIONS + "host = localhost\n"),
    "two hosts": ("hosts = 127.0.0.1:ONE unix:SOCKET", OPTIONS + "host = 127.0.0.1\nport = ONE\n"),
    "inet and port": ("hosts = inet:127.0.0.1", OPTIONS + "port = TWO\n"),
    "an odd port": ("hosts = 127.0.0.1:ONE", OPTIONS + "port = x\n"),
    "abbreviated": (HOST, OPTIONS + "use = two\n"),
    "upper case": (HOST, OPTIONS + "USER = two\n"),
    "empty": (HOST, OPTIONS + "database =\n"),
}


REFUSED = {
    "init-command": (HOST, OPTIONS + "init-command = SET @given = 5\n"),
    "init_command": (HOST, OPTIONS + "init_command = SET @given = 5\n"),
    "connection": (HOST, OPTIONS + "connection = server=127.0.0.1;port=TWO\n"),
}


async def answer(connect: Connect, path: Path) -> bytes | None:
    """Return what we answer with a .cf file, or None for a failure."""
    settings = cf_settings(read_postfix_cf(path))
    assert isinstance(settings, MysqlSettings)
    check_option_file(settings)
    try:
        rows = (await connect(settings).fetch(statement(QUERY))).rows
    except DatabaseError:
        return None
    return rows[0][0]


@pytest.fixture(scope="module")
def theirs(world: World) -> dict[str, bytes | None]:
    """Return what postmap answers in each case."""
    os.utime(world.postfix.config / "main.cf", (0, 0))

    def ask(name: str) -> bytes | None:
        cf, options = {**SAME, **REFUSED}[name]
        run = world.postfix.postmap(f"mysql:{world.write(name, cf, options)}", [b"key"])
        return None if run.failed else run.found.rstrip(b"\n").partition(b"\t")[2]

    names = [*SAME, *REFUSED]
    with ThreadPoolExecutor(16) as pool:
        return dict(zip(names, pool.map(ask, names), strict=True))


@pytest.mark.parametrize("name", SAME)
async def test_as_postmap(
    world: World, theirs: dict[str, bytes | None], connect: Connect, name: str
) -> None:
    """The account, the database and the server are those that postmap takes."""
    path = world.write(name, *SAME[name])
    assert await answer(connect, path) == theirs[name]


@pytest.mark.parametrize(
    ("name", "given"), [("init-command", b" 5"), ("init_command", b" 5"), ("connection", b"")]
)
async def test_refused(
    world: World, theirs: dict[str, bytes | None], connect: Connect, name: str, given: bytes
) -> None:
    """What would have to be done at each login, and is not, is refused with the reason."""
    assert (theirs[name] or b"").endswith(given)
    with pytest.raises(ValueError, match=name.replace("_", "-")):
        await answer(connect, world.write(name, *REFUSED[name]))
