"""Logins and user lookups per second of a real Dovecot, on its own SQL driver and on mailmapd (row 11)."""

from __future__ import annotations

import asyncio
import random
import statistics
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from bench import mailboxes
from bench.accounting import OwnTime
from bench.auth_client import AuthClient
from bench.report import Line, micros, per_second, times
from bench.rounds import interleave, median_ratio
from bench.workbench import DATABASE, BenchDaemon, Workbench
from mailmapd.config.loader import load_config
from mailmapd.snippets.dovecot import dovecot_23
from support.dovecot import Dovecot, write_snippet
from support.mariadb import private_directory
from support.process import ServerFailed

ROWS = (11,)
KINDS = {"passdb": "auth-client", "userdb": "auth-userdb"}
IN_FLIGHT = (1, 30)
NEAR_TARGET, FAR_TARGET = 1.0, 3.0
ACCOUNT, ACCOUNT_PASSWORD = "dovecot", "geheim"
OUR_CACHED, SQL_CACHED = "mailmapd, kept for 10 s", "SQL driver, kept for 1 h"
NO_CACHE = "auth_cache_size = 0\n"
LONG_CACHE = "auth_cache_size = 100 M\nauth_cache_ttl = 1 hour\n"
SHORT_CACHE = "auth_cache_size = 10 M\nauth_cache_ttl = 10 secs\n"
QUERIES = """\
default_pass_scheme = PLAIN
password_query = SELECT username AS user, password FROM mailbox WHERE username = '%u' AND active = '1'
user_query = SELECT CONCAT('/srv/mail/', maildir) AS home, 5000 AS uid, 5000 AS gid FROM mailbox WHERE username = '%u' AND active = '1'
"""


class Contender:
    """A running Dovecot."""

    def __init__(self, stack: ExitStack, settings: str) -> None:
        self._dovecot = stack.enter_context(
            Dovecot(stack.enter_context(private_directory()), settings)
        )

    def rate(self, kind: str, in_flight: int, users: list[str], requests: int) -> float:
        """Return completed lookups per second."""
        client = AuthClient(kind, self._dovecot.socket(KINDS[kind]), users, mailboxes.PASSWORD)
        rate = asyncio.run(client.measure(requests, in_flight))
        if rate.missing:
            raise ServerFailed(
                f"{rate.missing} of {requests} {kind} lookups failed:\n{self._dovecot.text()[-2000:]}"
            )
        return rate.per_second


def measure(bench: Workbench, _: set[int]) -> Iterator[Line]:
    """Yield the lines of row 11."""
    bench.mariadb.grant(ACCOUNT, ACCOUNT_PASSWORD, DATABASE)
    with ExitStack() as stack:
        sql, ours, daemon = _settings(bench, stack, bench.near)
        near = {
            "mailmapd": Contender(stack, ours + NO_CACHE),
            "SQL driver": Contender(stack, sql + NO_CACHE),
            OUR_CACHED: Contender(stack, ours + SHORT_CACHE),
            SQL_CACHED: Contender(stack, sql + LONG_CACHE),
        }
        yield from _compare(bench, "", near, NEAR_TARGET, daemon)
    with ExitStack() as stack:
        sql, ours, daemon = _settings(bench, stack, bench.far)
        far = {
            "mailmapd": Contender(stack, ours + NO_CACHE),
            "SQL driver": Contender(stack, sql + NO_CACHE),
        }
        yield from _compare(bench, ", 1 ms to the database", far, FAR_TARGET, daemon)


def _settings(bench: Workbench, stack: ExitStack, database: Path) -> tuple[str, str, BenchDaemon]:
    """Start a mailmapd.

    Return Dovecot's settings for its own SQL driver, and for mailmapd as `mailmapd snippets` gives
    them.
    """
    folder = bench.directory()
    sql = folder / "dovecot-sql.conf.ext"
    connect = f"host={database} dbname={DATABASE} user={ACCOUNT} password={ACCOUNT_PASSWORD}"
    sql.write_text(f"driver = mysql\nconnect = {connect}\n{QUERIES}", encoding="utf-8")
    section = f"{{\n  driver = sql\n  args = {sql}\n}}\n"
    config = (
        f'[listen]\ndict = [{{address = "unix:{{directory}}/dict", mode = '
        f'"0666"}}]\n[dict.auth]\ndovecot_sql = "{sql}"\n'
    )
    daemon = stack.enter_context(bench.daemon(config, pinned=False))
    write_snippet(dovecot_23(load_config(daemon.config), str(daemon.directory)))
    return (
        f"passdb {section}userdb {section}",
        f"!include {daemon.directory}/conf.d/10-auth.conf\n",
        daemon,
    )


def _compare(
    bench: Workbench,
    where: str,
    contenders: Mapping[str, Contender],
    target: float,
    daemon: BenchDaemon,
) -> Iterator[Line]:
    users = [
        mailboxes.address(number)
        for number in random.Random(1).sample(range(bench.scale.mailboxes), bench.scale.users)
    ]
    for kind in KINDS:
        for in_flight in IN_FLIGHT:
            requests = {}
            for name, contender in contenders.items():
                if in_flight == min(IN_FLIGHT):
                    contender.rate(kind, max(IN_FLIGHT), users, 5 * len(users))
                probe = contender.rate(kind, in_flight, users, 100 * in_flight)
                requests[name] = max(int(probe * bench.scale.login_seconds), 50)
            own = OwnTime(daemon.process.pid, in_flight)
            measures = {
                name: partial(contender.rate, kind, in_flight, users, requests[name])
                for name, contender in contenders.items()
            }
            measures["mailmapd"] = partial(
                _metered, own, measures["mailmapd"], requests["mailmapd"]
            )
            rounds = interleave(bench.scale.repetitions, measures)
            what = f"{kind}, {in_flight} in flight{where}"
            yield _line(what, rounds, "mailmapd", "SQL driver", target)
            yield _ceiling(what, rounds, own)
            if OUR_CACHED in rounds:
                yield _line(
                    f"{what}; with an auth cache in front", rounds, OUR_CACHED, SQL_CACHED, None
                )


def _line(
    what: str, rounds: Mapping[str, list[float]], ours: str, theirs: str, target: float | None
) -> Line:
    ratio = median_ratio(rounds[ours], rounds[theirs])
    return Line(
        11,
        f"Dovecot {what}",
        f"{per_second(statistics.median(rounds[ours]))}{ours.removeprefix('mailmapd')}",
        f"{theirs}: {per_second(statistics.median(rounds[theirs]))}",
        times(ratio),
        "reported" if target is None else f"≥ {target:.1f}",
        None if target is None else ratio >= target,
    )


def _metered(own: OwnTime, measure: Callable[[], float], requests: int) -> float:
    """Measure a rate, and mailmapd's processor time per request."""
    rates: list[float] = []

    def work() -> float:
        rates.append(measure())
        return requests

    own.around(work)
    return rates[0]


def _ceiling(what: str, rounds: Mapping[str, list[float]], own: OwnTime) -> Line:
    """Return what no daemon in mailmapd's place could exceed."""
    bound = own.ceiling(statistics.median(rounds["mailmapd"]))
    ratio = times(bound / statistics.median(rounds["SQL driver"]))
    part = f"its part: {micros(own.per_unit * 1e6)} of processor time"
    return Line(
        11,
        f"Dovecot {what}: had mailmapd's part taken no time",
        per_second(bound),
        part,
        ratio,
        "reported",
    )
