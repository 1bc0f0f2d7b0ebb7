"""Logins and user lookups per second of a real Dovecot, on its own SQL driver and on mailmapd (row 11)."""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from bench import mailboxes
from bench.accounting import OwnTime
from bench.auth_client import AuthClient
from bench.report import Line, micros, per_second, times
from bench.rounds import Rounds, interleave, median_ratio
from bench.source import OURS, Source
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
SQL = "SQL driver"
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
    """A running Dovecot; `daemon` is the mailmapd that it asks, whose processor time is taken."""

    def __init__(
        self, bench: Workbench, stack: ExitStack, settings: str, daemon: BenchDaemon | None = None
    ) -> None:
        self.daemon = daemon
        self._draws = bench.draws
        self._dovecot = stack.enter_context(
            Dovecot(stack.enter_context(private_directory()), settings)
        )

    def rate(
        self, kind: str, in_flight: int, users: list[str], requests: int, seed: int | None = None
    ) -> float:
        """Return completed lookups per second; without a seed, of users that nobody needs to draw again."""
        seed = self._draws.fresh("warm-up of Dovecot") if seed is None else seed
        socket = self._dovecot.socket(KINDS[kind])
        client = AuthClient(kind, socket, users, mailboxes.PASSWORD, seed)
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
        near = _contenders(bench, stack, bench.near)
        settings, daemon = _over_mailmapd(bench, stack, bench.near, bench.sources[0])
        near[OUR_CACHED] = Contender(bench, stack, settings + SHORT_CACHE, daemon)
        near[SQL_CACHED] = Contender(bench, stack, _over_sql(bench, bench.near) + LONG_CACHE)
        yield from _compare(bench, "", near, NEAR_TARGET)
    with ExitStack() as stack:
        far = _contenders(bench, stack, bench.far)
        yield from _compare(bench, ", 1 ms to the database", far, FAR_TARGET)


def _contenders(bench: Workbench, stack: ExitStack, database: Path) -> dict[str, Contender]:
    """Start a Dovecot for the SQL driver and one for each version of mailmapd, without an auth cache."""
    contenders = {}
    for source in bench.sources:
        settings, daemon = _over_mailmapd(bench, stack, database, source)
        contenders[source.name] = Contender(bench, stack, settings + NO_CACHE, daemon)
    contenders[SQL] = Contender(bench, stack, _over_sql(bench, database) + NO_CACHE)
    return contenders


def _sql_settings(bench: Workbench, database: Path) -> Path:
    sql = bench.directory() / "dovecot-sql.conf.ext"
    connect = f"host={database} dbname={DATABASE} user={ACCOUNT} password={ACCOUNT_PASSWORD}"
    sql.write_text(f"driver = mysql\nconnect = {connect}\n{QUERIES}", encoding="utf-8")
    return sql


def _over_sql(bench: Workbench, database: Path) -> str:
    """Return Dovecot's settings for its own SQL driver."""
    section = f"{{\n  driver = sql\n  args = {_sql_settings(bench, database)}\n}}\n"
    return f"passdb {section}userdb {section}"


def _over_mailmapd(
    bench: Workbench, stack: ExitStack, database: Path, source: Source
) -> tuple[str, BenchDaemon]:
    """Start a mailmapd; return Dovecot's settings for it as `mailmapd snippets` gives them."""
    config = (
        f'[listen]\ndict = [{{address = "unix:{{directory}}/dict", mode = '
        f'"0666", peers = ["dovecot"]}}]\n[dict.auth]\ndovecot_sql = "{_sql_settings(bench, database)}"\n'
    )
    daemon = stack.enter_context(bench.daemon(config, source=source, pinned=False))
    write_snippet(dovecot_23(load_config(daemon.config), str(daemon.directory)))
    return f"!include {daemon.directory}/conf.d/10-auth.conf\n", daemon


def _compare(
    bench: Workbench, where: str, contenders: Mapping[str, Contender], target: float
) -> Iterator[Line]:
    users = [
        mailboxes.address(number)
        for number in bench.draws.chance("users").sample(
            range(bench.scale.mailboxes), bench.scale.users
        )
    ]
    for kind in KINDS:
        for in_flight in IN_FLIGHT:
            what = f"{kind}, {in_flight} in flight{where}"
            rounds, own = _rounds(bench, contenders, kind, in_flight, users)
            yield _line(what, rounds, OURS, SQL, target)
            yield _ceiling(what, rounds, own[OURS])
            for parent in bench.sources[1:]:
                yield _line(what, rounds, OURS, parent.name, None)
                yield _part(what, parent.name, own)
            if OUR_CACHED in rounds:
                yield _line(
                    f"{what}; with an auth cache in front", rounds, OUR_CACHED, SQL_CACHED, None
                )


def _rounds(
    bench: Workbench,
    contenders: Mapping[str, Contender],
    kind: str,
    in_flight: int,
    users: list[str],
) -> tuple[Rounds[float], dict[str, OwnTime]]:
    """Measure rates, and what each mailmapd used for them."""
    measures: dict[str, Callable[[int], float]] = {}
    own: dict[str, OwnTime] = {}
    for name, contender in contenders.items():
        if in_flight == min(IN_FLIGHT):
            contender.rate(kind, max(IN_FLIGHT), users, 5 * len(users))
        probe = contender.rate(kind, in_flight, users, 100 * in_flight)
        requests = max(int(probe * bench.scale.login_seconds), 50)
        measures[name] = partial(contender.rate, kind, in_flight, users, requests)
        if contender.daemon is not None:
            own[name] = OwnTime(contender.daemon.process.pid, in_flight)
            measures[name] = partial(_metered, own[name], measures[name], requests)
    return interleave(bench.seeds(f"row 11, {kind}, {in_flight}"), measures), own


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


def _metered(own: OwnTime, measure: Callable[[int], float], requests: int, seed: int) -> float:
    """Measure a rate, and mailmapd's processor time per request."""
    rates: list[float] = []

    def work() -> float:
        rates.append(measure(seed))
        return requests

    own.around(work)
    return rates[0]


def _ceiling(what: str, rounds: Mapping[str, list[float]], own: OwnTime) -> Line:
    """Return what no daemon in mailmapd's place could exceed."""
    bound = own.ceiling(statistics.median(rounds[OURS]))
    ratio = times(bound / statistics.median(rounds[SQL]))
    part = f"its part: {micros(own.per_unit * 1e6)} of processor time"
    return Line(
        11,
        f"Dovecot {what}: had mailmapd's part taken no time",
        per_second(bound),
        part,
        ratio,
        "reported",
    )


def _part(what: str, parent: str, own: Mapping[str, OwnTime]) -> Line:
    """Return mailmapd's own processor time beside its parent's."""
    ours, theirs = (own[name].per_unit * 1e6 for name in (OURS, parent))
    return Line(
        11,
        f"Dovecot {what}: mailmapd's processor time",
        micros(ours),
        f"{parent}: {micros(theirs)}",
        times(ours / theirs),
        "reported",
    )
