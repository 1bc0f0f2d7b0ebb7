"""Recipients that a real smtpd checks on PostfixAdmin's maps.

Near the database (row 5) and with a network before it (row 6).
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from bench import mailboxes, programs
from bench.accounting import OwnTime
from bench.one_core import on_one_core
from bench.programs import Figures
from bench.report import Line, micros, per_second, times
from bench.rounds import Rounds, interleave, median_ratio
from bench.workbench import Workbench
from support.mariadb import private_directory
from support.postfix import Postfix
from support.process import ServerFailed

ROWS = (5, 6)
CLIENTS = (1, 8)
NEAR_TARGETS = {"user@": 3.0, "user+ext@": 4.5, "unknown@": 4.5}
STATIC_TARGET = 0.6
FAR_TARGET = 20.0
NOTHING = "inline:{none=none}"
MAPS = {
    "virtual_mailbox_domains": ("virtual_domains_maps",),
    "virtual_alias_maps": (
        "virtual_alias_maps",
        "virtual_alias_domain_maps",
        "virtual_alias_domain_catchall_maps",
    ),
    "virtual_mailbox_maps": ("virtual_mailbox_maps", "virtual_alias_domain_mailbox_maps"),
    "relay_domains": ("relay_domains",),
    "transport_maps": ("transport_maps",),
}
SEARCHES = {
    "virtual_mailbox_domains": 'search = "domain"',
    "virtual_alias_maps": 'search = "address"\nrecipient_delimiter = "+"\npropagate_unmatched_extensions = true',
    "virtual_mailbox_maps": 'search = "address"\nrecipient_delimiter = "+"',
    "relay_domains": 'search = "domain"\nparent_domain_matches_subdomains = true',
    "transport_maps": 'search = "transport"\nrecipient_delimiter = "+"',
}


def configuration(cf: Path) -> str:
    """Return the configuration that stands for PostfixAdmin's .cf files; answers stay fresh for longer than a run."""
    tables = "".join(
        f'[table.{table}]\npostfix_cf = "{cf}/{table}.cf"\n'
        for names in MAPS.values()
        for table in names
    )
    maps = "".join(
        f"[map.{name}]\ntables = {list(MAPS[name])}\n{search}\n"
        for name, search in SEARCHES.items()
    )
    return f"""\
[listen]
socketmap = [{{address = "unix:{{directory}}/socketmap", mode = "0666"}}]
[cache]
ttl = "1d"
negative_ttl = "1d"
{tables}{maps}"""


def sql_settings(cf: Path) -> dict[str, str]:
    """Return the settings of a Postfix that asks the database, through proxymap."""
    return {
        name: ", ".join(f"proxy:mysql:{cf}/{table}.cf" for table in tables)
        for name, tables in MAPS.items()
    }


def our_settings(socket: Path) -> dict[str, str]:
    """Return the settings of a Postfix that asks mailmapd."""
    return {name: f"socketmap:unix:{socket}:{name}" for name in MAPS}


def static_settings(known: bool) -> dict[str, str]:
    """Return the settings of a Postfix that answers each of the same maps itself: every mailbox exists, or none."""
    recipients = "static:here" if known else NOTHING
    return {
        "virtual_mailbox_domains": "static:here",
        "virtual_alias_maps": recipients,
        "virtual_mailbox_maps": recipients,
        "relay_domains": NOTHING,
        "transport_maps": "static::",
    }


def measure(bench: Workbench, wanted: set[int]) -> Iterator[Line]:
    """Yield the lines of rows 5 and 6."""
    keys = _key_files(bench)
    if 5 in wanted:
        yield from _near(bench, keys)
    if 6 in wanted:
        yield from _far(bench, keys)


def _key_files(bench: Workbench) -> dict[str, Path]:
    folder = bench.directory()
    chosen = bench.draws.chance("recipients").sample(
        range(bench.scale.mailboxes), bench.scale.recipients
    )
    users = [mailboxes.address(number) for number in chosen]
    kinds = {
        "user@": users,
        "user+ext@": [user.replace("@", "+ext@") for user in users],
        "unknown@": [
            f"nobody{number}@{user.rpartition('@')[2]}" for number, user in enumerate(users)
        ],
    }
    return {
        kind: mailboxes.write_keys(folder / kind.rstrip("@"), addresses)
        for kind, addresses in kinds.items()
    }


def _near(bench: Workbench, keys: Mapping[str, Path]) -> Iterator[Line]:
    cf = bench.write_cf(bench.directory() / "sql", bench.near)
    with ExitStack() as stack:
        daemon = stack.enter_context(bench.daemon(configuration(cf), pinned=False))
        sql, ours, known, unknown = (
            _postfix(stack, settings)
            for settings in (
                sql_settings(cf),
                our_settings(daemon.directory / "socketmap"),
                static_settings(True),
                static_settings(False),
            )
        )
        for kind, file in keys.items():
            static = unknown if kind == "unknown@" else known
            for clients in CLIENTS:
                own = OwnTime(daemon.process.pid, clients)
                what = _what(kind, clients)
                rounds = _rounds(
                    bench,
                    {"mailmapd": ours, "proxy:mysql:": sql, "static:": static},
                    file,
                    clients,
                    own,
                )
                yield _line(5, what, rounds, "proxy:mysql:", NEAR_TARGETS[kind])
                yield _line(5, what, rounds, "static:", STATIC_TARGET)
                yield _ceiling(5, what, rounds, "static:", own)
        with on_one_core():
            for kind, file in keys.items():
                servers = {
                    "mailmapd": ours,
                    "proxy:mysql:": sql,
                    "static:": unknown if kind == "unknown@" else known,
                }
                rounds = _rounds(
                    bench, servers, file, max(CLIENTS), OwnTime(daemon.process.pid, max(CLIENTS))
                )
                for peer in ("proxy:mysql:", "static:"):
                    yield _line(
                        5,
                        _what(kind, max(CLIENTS)) + ", everything on one core",
                        rounds,
                        peer,
                        None,
                    )


def _far(bench: Workbench, keys: Mapping[str, Path]) -> Iterator[Line]:
    cf = bench.write_cf(bench.directory() / "sql", bench.far)
    with ExitStack() as stack:
        daemon = stack.enter_context(bench.daemon(configuration(cf), pinned=False))
        sql, ours = (
            _postfix(stack, settings)
            for settings in (sql_settings(cf), our_settings(daemon.directory / "socketmap"))
        )
        for kind, file in keys.items():
            for clients in CLIENTS:
                own = OwnTime(daemon.process.pid, clients)
                rounds = _rounds(bench, {"mailmapd": ours, "proxy:mysql:": sql}, file, clients, own)
                what = _what(kind, clients) + ", 1 ms to the database"
                yield _line(6, what, rounds, "proxy:mysql:", FAR_TARGET)
                yield _ceiling(6, what, rounds, "proxy:mysql:", own)


def _postfix(stack: ExitStack, maps: dict[str, str]) -> Postfix:
    settings = {
        "recipient_delimiter": "+",
        "proxy_read_maps": " ".join(maps.values()),
        "smtpd_reject_unlisted_sender": "no",
    }
    return stack.enter_context(Postfix(stack.enter_context(private_directory()), settings | maps))


def _rounds(
    bench: Workbench, servers: Mapping[str, Postfix], keys: Path, clients: int, own: OwnTime
) -> Rounds[float]:
    """Measure recipients per second, after one pass over all keys that fills mailmapd's cache (and starts every smtpd).

    `own` is told mailmapd's processor time per recipient.
    """
    _load(bench, servers["mailmapd"], keys, ["-c", str(clients), "-o"])
    options = ["-c", str(clients), "-t", str(bench.scale.recipient_seconds)]

    def rate(server: Postfix, seed: int) -> float:
        figures: Figures = {}

        def work() -> float:
            figures.update(_load(bench, server, keys, [*options, "-s", str(seed)]))
            return figures["accepted"] + figures["refused"]

        if server is servers["mailmapd"]:
            own.around(work)
        else:
            work()
        return figures["recipients_per_s"]

    for server in servers.values():
        seed = bench.draws.fresh("recipients, warm-up")
        _load(bench, server, keys, ["-c", str(clients), "-t", "0.1", "-s", str(seed)])
    return interleave(
        bench.seeds("recipients' turns"),
        {name: partial(rate, server) for name, server in servers.items()},
    )


def _load(bench: Workbench, server: Postfix, keys: Path, options: list[str]) -> Figures:
    command = [
        programs.build("rcpt_load", bench.programs),
        *options,
        f"127.0.0.1:{server.port}",
        str(keys),
    ]
    figures = programs.figures(command)
    if figures["deferred"]:
        raise ServerFailed(
            f"{figures['deferred']:.0f} recipients were deferred:\n{server.text()[-2000:]}"
        )
    if bool(figures["accepted"]) == (keys.name == "unknown"):
        raise ServerFailed(
            f"{keys.name} recipients: {figures['accepted']:.0f} accepted, {figures['refused']:.0f} refused"
        )
    return figures


def _what(kind: str, clients: int) -> str:
    return f"RCPT TO, {kind}, {clients} client{'s' if clients > 1 else ''}"


def _line(row: int, what: str, rounds: Rounds[float], peer: str, target: float | None) -> Line:
    ratio = median_ratio(rounds["mailmapd"], rounds[peer])
    return Line(
        row,
        what,
        per_second(statistics.median(rounds["mailmapd"])),
        f"{peer} {per_second(statistics.median(rounds[peer]))}",
        times(ratio),
        "reported" if target is None else f"≥ {target:g}",
        None if target is None else ratio >= target,
    )


def _ceiling(row: int, what: str, rounds: Rounds[float], peer: str, own: OwnTime) -> Line:
    """Return what no daemon in mailmapd's place could exceed."""
    bound = own.ceiling(statistics.median(rounds["mailmapd"]))
    return Line(
        row,
        f"{what}: had mailmapd's part taken no time",
        per_second(bound),
        f"its part: {micros(own.per_unit * 1e6)} of processor time",
        times(bound / statistics.median(rounds[peer])),
        "reported",
    )
