"""`mailmapd verify`: the old maps and the new ones, asked the same questions."""

from __future__ import annotations

import asyncio
import os
import shlex
import sys
import time
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mailmapd.cli.options import config_option
from mailmapd.cli.output import say, say_lines
from mailmapd.model.legible import legible

if TYPE_CHECKING:
    from mailmapd.config.schema import Config
    from mailmapd.plan.assembly import Assembled
    from mailmapd.verify.key_sources import Keys
    from mailmapd.verify.run import Result

_SHOWN = 20  # differences printed per map
_WIDE = 10_000  # columns, more than any line has


@click.command("verify")
@config_option
@click.option(
    "--postfix",
    "directory",
    metavar="DIR",
    default="/etc/postfix",
    show_default=True,
    help="Postfix's configuration directory.",
)
@click.option(
    "--socket",
    "socket",
    metavar="ADDRESS",
    help="Ask a running daemon (unix:/path or host:port) instead of the database.",
)
@click.option("--keys", "key_file", metavar="FILE", help="Ask these keys, too: one a line.")
@click.option(
    "--mail-log", metavar="FILE", help="Ask the senders and recipients of this mail log, too."
)
@click.option(
    "--no-database-keys",
    is_flag=True,
    help="Do not take addresses and domains from the database's tables.",
)
@click.option(
    "--map", "only", metavar="MAP", multiple=True, help="Compare this map only. May be repeated."
)
@click.option(
    "--dovecot-sql",
    "dovecot_file",
    metavar="FILE",
    help="Compare Dovecot's side instead: all users through this file and through the running mailmapd.",
)
@click.option(
    "--dict",
    "dict_name",
    metavar="NAME",
    help="The dict that is compared with --dovecot-sql, where the configuration has several.",
)
@click.option(
    "--limit",
    metavar="N",
    type=click.IntRange(min=0),
    default=0,
    help="Ask at most about N keys per map; 0 means all.",
)
def command(  # noqa: PLR0917 - click passes every option
    config_file: str,
    directory: str,
    socket: str | None,
    key_file: str | None,
    mail_log: str | None,
    no_database_keys: bool,
    only: tuple[str, ...],
    dovecot_file: str | None,
    dict_name: str | None,
    limit: int,
) -> None:
    """Ask Postfix's old maps (through the real postmap) and the new ones for many keys, and report every difference.

    Keys are all addresses and domains in the database's tables, the values that the queries compare
    with the key in the forms that Postfix asks, edge cases made from them, and
    those of --keys and --mail-log. After the switch the saved main.cf tells what the old maps were.
    Exit status: 0 no difference, 1 differences, or a map whose old side cannot be asked.

    \b
    Example:
      mailmapd verify --postfix /etc/postfix --mail-log /var/log/mail.log
    """
    from mailmapd.config.loader import load_config
    from mailmapd.verify.key_sources import keys_of_file, keys_of_mail_log

    if dict_name is not None and dovecot_file is None:
        raise click.UsageError("--dict goes with --dovecot-sql FILE")
    config = load_config(config_file)
    if dovecot_file is not None:
        sys.exit(_dovecot_side(config, Path(dovecot_file), dict_name, limit))
    extra = [
        *(keys_of_file(Path(key_file)) if key_file else ()),
        *(keys_of_mail_log(Path(mail_log)) if mail_log else ()),
    ]
    started = time.monotonic()
    results = asyncio.run(
        _compare(config, Path(directory), socket, extra, not no_database_keys, only, limit)
    )
    secret = {
        name
        for name, section in config.maps.items()
        if any(config.tables[table].secret for table in section.tables)
    }
    _print(results, time.monotonic() - started, config_file, secret)
    failed = any(result.differences or result.broken for result in results)
    sys.exit(1 if failed else os.EX_OK)


def _dovecot_side(config: Config, file: Path, dict_name: str | None, limit: int) -> int:
    """Compare all users as Dovecot sees them; return the exit status."""
    from mailmapd.verify.dovecot_side import compare_dovecot, shown_answer

    started = time.monotonic()
    result = compare_dovecot(config, file, limit, dict_name=dict_name)
    for (kind, user), old, new in result.differences[:_SHOWN]:
        say()
        say(f"{kind} {user.decode('utf-8', 'backslashreplace')}")
        say(f"  Dovecot's own SQL: {shown_answer(old)}")
        say(f"  mailmapd:          {shown_answer(new)}")
    if len(result.differences) > _SHOWN:
        say()
        say(f"{len(result.differences) - _SHOWN} more differences")
    if not result.found:
        say("Proves nothing, because no user was found.")
    if result.failed:
        say(
            f"{result.failed} questions fail with Dovecot's own SQL, which proves nothing about them."
        )
    say(
        f"{result.users} users, {len(result.differences)} differences; {time.monotonic() - started:.1f} s"
    )
    return 1 if result.differences or not result.found else os.EX_OK


async def _compare(  # noqa: PLR0917 - the options, in order
    config: Config,
    directory: Path,
    socket: str | None,
    extra: Sequence[bytes],
    from_database: bool,
    only: Sequence[str],
    limit: int,
) -> list[Result]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeRemainingColumn,
    )

    from mailmapd.config.address import parse_address
    from mailmapd.plan.assembly import assemble, plan
    from mailmapd.verify.new_maps import EngineMaps, NewMaps, SocketMaps, patient
    from mailmapd.verify.postmap import Postmap, PostmapError
    from mailmapd.verify.run import Result, choose_keys, compare_map, old_maps

    assembled = assemble(patient(plan(config)))
    new: NewMaps = SocketMaps(parse_address(socket)) if socket else EngineMaps(assembled.engine)
    postmap = Postmap(directory)
    try:
        found, lacking = old_maps(config, directory)
        olds = {name: old for name, old in found.items() if not only or name in only}
        if lacking and not only:
            say_lines(
                f"Not compared, because {config.file} has no such map: {legible(', '.join(lacking))}.\n"
                f"mailmapd import --postfix {shlex.quote(str(directory))}"
                f" --output {shlex.quote(config.file)} --force\n"
            )
        keys, compared = await _database_keys(assembled, from_database)
        chosen = {
            name: choose_keys(old.section, keys, extra, limit, compared=compared.get(name, []))
            for name, old in olds.items()
        }
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TaskProgressColumn(show_speed=True),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=Console(stderr=True)) as bar:
            tasks = {name: bar.add_task(name, total=len(chosen[name])) for name in olds}
            gate = asyncio.Semaphore(os.cpu_count() or 2)

            async def compare(name: str) -> Result:
                async with gate:
                    try:
                        return await compare_map(
                            name,
                            olds[name],
                            new,
                            postmap=postmap,
                            keys=chosen[name],
                            progress=lambda _, done: bar.advance(tasks[name], done),
                        )
                    except PostmapError as error:  # the others can be compared all the same
                        return Result(name, broken=str(error))

            if socket:
                return [await compare(name) for name in olds]  # one connection, one map at a time
            return list(await asyncio.gather(*(compare(name) for name in olds)))
    finally:
        await new.close()
        if socket:
            await assembled.engine.close()


async def _database_keys(assembled: Assembled, wanted: bool) -> tuple[Keys, dict[str, list[bytes]]]:
    """Return the addresses and domains of all databases, and for each map the values that its queries compare."""
    from mailmapd.check.query_texts import query_texts
    from mailmapd.errors import DatabaseError
    from mailmapd.verify.compared_values import (
        addresses_of_others,
        compared_values,
        domains_of_others,
    )
    from mailmapd.verify.key_sources import Keys, keys_of_database

    keys = Keys()
    values: dict[str, dict[bytes, None]] = {}
    pairs: dict[str, set[tuple[bytes, bytes]]] = {}
    plan = assembled.plan
    if wanted:
        texts = query_texts(plan.config)
        for table, name in plan.table_databases.items():
            if table not in texts:
                continue
            database = assembled.engine.databases[name]
            try:
                values[table] = await compared_values(database, texts[table])
                pairs[table] = await domains_of_others(database, texts[table])
                await keys_of_database(database, [texts[table]], keys)
            except DatabaseError as error:
                say(f"table {table}: its keys cannot be read: {error}", err=True)
    for table, found in pairs.items():
        values[table] |= dict.fromkeys(addresses_of_others(found, keys.addresses))
    compared = {
        name: list(dict.fromkeys(key for table in section.tables for key in values.get(table, {})))
        for name, section in plan.config.maps.items()
    }
    return keys, compared


def _print(
    results: Sequence[Result], seconds: float, config_file: str, secret: Collection[str]
) -> None:
    from rich.console import Console
    from rich.table import Table

    from mailmapd.verify.comparison import Verdict

    table = Table(box=None, pad_edge=False)
    for column, justify in (
        ("map", "left"),
        ("keys", "right"),
        ("found", "right"),
        ("differences", "right"),
        ("notes", "left"),
    ):
        table.add_column(column, justify=justify, no_wrap=column != "notes", overflow="fold")  # type: ignore[arg-type]
    for result in results:
        notes = [
            f"{result.verdicts[verdict]} {verdict.value}"
            for verdict in (Verdict.REORDERED, Verdict.RESCUED)
            if result.verdicts[verdict] and not result.broken
        ]
        if result.broken:
            notes = [legible(f"not compared: {result.broken}")]
        elif result.proves_nothing:
            notes.append("proves nothing: no key was found on either side")
        table.add_row(
            legible(result.name),
            str(result.keys),
            str(result.found),
            "unknown" if result.broken else str(result.verdicts[Verdict.DIFFERENT]),
            "; ".join(notes),
        )
    console = Console()
    if not console.is_terminal:
        console = Console(width=_WIDE)  # what reads a pipe reads whole lines
    console.print(table)
    for result in results:
        _print_differences(result, config_file, secret=result.name in secret)
    total = sum(result.keys for result in results)
    different = sum(result.verdicts[Verdict.DIFFERENT] for result in results)
    old = sum(result.old_lookups for result in results)
    speed = (
        f"{old} lookups of the old maps; {seconds:.1f} s, {total / max(seconds, 0.001):.0f} keys/s"
    )
    empty = [result.name for result in results if result.proves_nothing]
    broken = [result.name for result in results if result.broken]
    if empty:
        say(f"Proves nothing, because no key was found: {', '.join(empty)}. Give keys with --keys.")
    if broken:
        rest = f"{different or 'no'} differences in the others"
        say(f"Not compared, because the old map fails: {', '.join(broken)}; {rest}; {speed}")
    else:
        say(f"{total} keys, {different} differences; {speed}")


def _print_differences(result: Result, config_file: str, *, secret: bool) -> None:
    from mailmapd.verify.comparison import shown

    for difference in result.differences[:_SHOWN]:
        key = os.fsdecode(difference.key)
        say()
        say(f"{difference.map}: {key}")
        say(f"  Postfix:  {shown(difference.old, secret=secret)}")
        say(f"  mailmapd: {shown(difference.new, secret=secret)}")
        words = [shlex.quote(word) for word in (difference.map, key, "--config", config_file)]
        say(f"  mailmapd trace {' '.join(words)}")
    more = len(result.differences) - _SHOWN
    if more > 0:
        say()
        say(f"{result.name}: {more} more differences")
