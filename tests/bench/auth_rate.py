"""How many logins and user lookups a real Dovecot 2.3 completes per second, over its own SQL driver and over mailmapd.

usage: PYTHONPATH=daemon:tests python tests/bench/auth_rate.py [USERS [REQUESTS [SEED]]]

Starts a MariaDB, a mailmapd and one Dovecot at a time, all private (root). Passwords are {PLAIN},
so that no time goes into hashing. Each is measured with and without Dovecot's own auth cache. Every
cell is the median of three runs, after one that warms caches and workers.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from bench.auth_client import AuthClient
from bench.draws import Draws
from mailmapd.config.loader import load_config
from mailmapd.snippets.dovecot import dovecot_23
from support.daemon import Daemon
from support.dovecot import Dovecot, write_snippet
from support.mariadb import MariaDB, private_directory

RUNS = 3
CACHE = "auth_cache_size = 100 M\nauth_cache_ttl = 1 hour\n"
NO_CACHE = "auth_cache_size = 0\n"
QUERIES = """\
password_query = SELECT username AS user, password FROM mailbox WHERE username = '%u'
user_query = SELECT home, uid, gid FROM mailbox WHERE username = '%u'
"""


def dovecots(stack: ExitStack, database: MariaDB) -> Iterator[tuple[str, Path, str]]:
    """Yield the name, directory and settings of every Dovecot to measure; mailmapd is started on the way."""
    directory = stack.enter_context(private_directory())
    sql = directory / "dovecot-sql.conf.ext"
    sql.write_text(
        f"driver = mysql\nconnect = host={database.socket} dbname=bench user=dovecot password=geheim\n{QUERIES}"
    )
    section = f"{{\n  driver = sql\n  args = {sql}\n}}\n"
    yield "own SQL driver", directory, f"passdb {section}userdb {section}{NO_CACHE}"
    yield (
        "own SQL driver + auth cache",
        stack.enter_context(private_directory()),
        f"passdb {section}userdb {section}{CACHE}",
    )
    daemon = stack.enter_context(
        Daemon(
            directory,
            f'[listen]\ndict = [{{address = "unix:{directory}/dict", mode = '
            f'"0666", peers = ["dovecot"]}}]\n[dict.auth]\ndovecot_sql = "{sql}"\n',
        )
    )
    snippet = dovecot_23(load_config(daemon.config), str(directory))
    write_snippet(snippet)
    include = f"!include {directory}/conf.d/10-auth.conf\n"
    yield "mailmapd", stack.enter_context(private_directory()), include + NO_CACHE
    yield "mailmapd + auth cache", stack.enter_context(private_directory()), include + CACHE
    settings = directory / "mailmapd-auth.conf.ext"
    settings.write_text(settings.read_text().replace("idle_msecs=20000:", ""))
    yield "mailmapd, no idle_msecs", stack.enter_context(private_directory()), include + NO_CACHE


def main(users: int = 1000, requests: int = 10_000, seed: int | None = None) -> None:
    """Measure and print one line per Dovecot."""
    draws = Draws.anew() if seed is None else Draws(seed)
    print(f"seed {draws.seed}")
    names = [f"u{number}@example.com" for number in range(users)]
    print(f"{'per second':30}{'logins, 1':>12}{'logins, 30':>12}{'users, 1':>12}{'users, 30':>12}")
    with ExitStack() as stack:
        database = stack.enter_context(MariaDB(stack.enter_context(private_directory())))
        database.run_sql("CREATE DATABASE bench")
        table = (
            "CREATE TABLE mailbox (username varchar(100) PRIMARY KEY, password varchar(100), "
            "home varchar(100), uid int, gid int)"
        )
        database.run_sql(table, database="bench")
        rows = (
            f"SELECT CONCAT('u', seq, '@example.com'), '{{PLAIN}}pw', '/srv/mail', 5000, 5000 "
            f"FROM seq_0_to_{users - 1}"
        )
        database.run_sql(f"INSERT INTO mailbox {rows}", database="bench")
        database.grant("dovecot", "geheim", "bench")
        for name, directory, settings in dovecots(stack, database):
            with Dovecot(directory, settings) as dovecot:
                cells = [
                    _median(
                        partial(AuthClient, kind, dovecot.socket(socket), names, "pw"),
                        draws,
                        requests,
                        in_flight,
                    )
                    for kind, socket in (("passdb", "auth-client"), ("userdb", "auth-userdb"))
                    for in_flight in (1, 30)
                ]
            print(f"{name:30}" + "".join(f"{cell:>12,.0f}" for cell in cells), flush=True)


def _median(
    client: Callable[[int], AuthClient], draws: Draws, requests: int, in_flight: int
) -> float:
    asked = requests if in_flight > 1 else max(requests // 5, 1)
    clients = [client(draws.fresh("users")) for _ in range(RUNS + 1)]
    rates = [asyncio.run(client.measure(asked, in_flight)) for client in clients][1:]
    failed = sum(rate.missing for rate in rates)
    if failed:
        sys.exit(f"{failed} requests failed: the numbers would mean nothing")
    return statistics.median(rate.per_second for rate in rates)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
