"""What a lookup from memory costs elsewhere than in one map of one table: in several maps, and in a dict (row 12)."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from bench import mailboxes
from bench.report import Line, count
from bench.rounds import interleave
from bench.rows.memory import LONG, once, warm
from bench.rows.recipients import configuration as postfixadmin
from bench.side import Side, processor_time
from bench.workbench import Workbench, database_section

ROWS = (12,)
CONNECTIONS = 64
MAPS = ("virtual_alias_maps", "virtual_mailbox_maps", "transport_maps")
DICT = "auth:shared/userdb/"
KINDS = ("user@", "user@", "user@", "user+ext@", "unknown@")
"""The kinds of recipients, in the parts that they have of all."""


def measure(bench: Workbench, _: set[int]) -> Iterator[Line]:
    """Yield the lines of row 12 about other maps than row 1's."""
    yield from _dict(bench)
    yield from _maps(bench)


def _dict(bench: Workbench) -> Iterator[Line]:
    with ExitStack() as stack:
        sides = _dict_sides(bench, stack)
        yield once(bench, sides, "users over the dict, each key once: answered from entries")
        yield from warm(bench, sides, "users over the dict")
        yield _drawn(bench, sides, "users over the dict, keys drawn anew")


def _dict_sides(bench: Workbench, stack: ExitStack) -> dict[str, Side]:
    config = f"""\
[listen]
dict = ["unix:{{directory}}/dict"]
{database_section(bench.near)}
[table.mailbox]
database = "mail"
query = "SELECT maildir FROM mailbox WHERE username = '%s'"
[dict.auth]
userdb = "mailbox"
[cache]
ttl = "{LONG}s"
max_entries = {bench.scale.entries + 1000}
"""
    sides = {}
    for source in bench.sources:
        daemon = stack.enter_context(
            bench.daemon(config, source=source, entries=bench.scale.entries, table="auth.userdb")
        )
        sides[source.name] = Side(
            bench,
            daemon.directory / "dict",
            (DICT,),
            daemon.process,
            protocol="dict",
            all_found=True,
        )
    return sides


def _maps(bench: Workbench) -> Iterator[Line]:
    """Measure PostfixAdmin's maps in turn: addresses as they are, with an extension, and of nobody,
    all of them known already.
    """
    cf = bench.write_cf(bench.directory() / "sql", bench.near)
    keys = _recipients(bench)
    with ExitStack() as stack:
        sides = {}
        for source in bench.sources:
            daemon = stack.enter_context(bench.daemon(postfixadmin(cf), source=source))
            socket = daemon.directory / "socketmap"
            for name in MAPS:  # each recipient once in each map: the database is not asked again
                bench.load(
                    socket, keys, name, options=["-c", "64", "-o", "-n", str(bench.scale.mailboxes)]
                )
            sides[source.name] = Side(bench, socket, MAPS, daemon.process, keys=keys)
        what = f"PostfixAdmin's maps in turn, {count(bench.scale.mailboxes)} recipients"
        yield from warm(bench, sides, what)
        yield _drawn(bench, sides, f"{what}, keys drawn anew")


def _recipients(bench: Workbench) -> Path:
    chance = bench.draws.chance("recipients in memory")
    people = list(mailboxes.addresses(bench.scale.mailboxes))
    chance.shuffle(people)
    return mailboxes.write_keys(
        bench.directory() / "recipients", [_variant(chance, person) for person in people]
    )


def _variant(chance: random.Random, address: str) -> str:
    match chance.choice(KINDS):
        case "user+ext@":
            return address.replace("@", "+ext@")
        case "unknown@":
            return f"nobody.{address}"
        case _:
            return address


def _drawn(bench: Workbench, sides: Mapping[str, Side], what: str) -> Line:
    rounds = interleave(
        bench.seeds(what), {name: partial(side.drawn, CONNECTIONS) for name, side in sides.items()}
    )
    return processor_time(rounds, what)
