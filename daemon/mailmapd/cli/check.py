"""`mailmapd check`: what is wrong, and what to do about it."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mailmapd.cli.options import config_option
from mailmapd.cli.output import say, say_lines
from mailmapd.model.legible import legible

if TYPE_CHECKING:
    from mailmapd.check.finding import Finding
    from mailmapd.check.freshness import Freshness

_DEFAULT_POSTFIX = Path("/etc/postfix")


@click.command("check")
@config_option
@click.option(
    "--postfix",
    "directory",
    metavar="DIR",
    help="Look at this Postfix instance, too.  [default: /etc/postfix, where it exists]",
)
@click.option("--no-postfix", is_flag=True, help="Do not look at Postfix.")
@click.option(
    "--format",
    "output",
    type=click.Choice(("table", "json")),
    default="table",
    show_default=True,
    help="For people or for programs.",
)
def command(config_file: str, directory: str | None, no_postfix: bool, output: str) -> None:
    """Check the configuration, the sockets, the database logins, every query (with EXPLAIN), and what Postfix expects.

    Queries that read whole tables are named with the index they lack, unknown columns with the
    existing ones. At the end stands what a change in each table of the database drops, where
    changes can be followed. Exit status: 0 clean (notes may be printed), 1 findings, 78 when the
    configuration cannot be read.

    \b
    Example:
      mailmapd check --config /etc/mailmapd/mailmapd.toml --format json
    """
    from mailmapd.check.finding import Level

    postfix = Path(directory) if directory else _DEFAULT_POSTFIX
    wanted = not no_postfix and (directory is not None or (postfix / "main.cf").exists())
    findings, freshness = asyncio.run(_check(config_file, postfix if wanted else None))
    findings.sort(key=lambda finding: -finding.level)
    if output == "json":
        fields = [
            {
                "level": f.level.word,
                "code": f.code,
                "where": f.where,
                "problem": f.problem,
                "remedy": f.remedy,
            }
            for f in findings
        ]
        say_lines(json.dumps(fields, ensure_ascii=False, indent=2))
    else:
        _print(findings)
        for checked in freshness:
            _print_freshness(checked)
    sys.exit(1 if any(finding.level > Level.NOTE for finding in findings) else os.EX_OK)


async def _check(config_file: str, postfix: Path | None) -> tuple[list[Finding], list[Freshness]]:
    from mailmapd.check.freshness import demanded_findings, freshness
    from mailmapd.check.run import check
    from mailmapd.config.loader import load_config
    from mailmapd.plan.assembly import plan

    planned = plan(load_config(config_file))
    findings = [finding async for finding in check(planned, postfix)]
    found = await freshness(planned)
    return [*findings, *demanded_findings(found)], found


def _print_freshness(checked: Freshness) -> None:
    """Print whether a database's changes can be followed, and what they drop."""
    from rich.console import Console

    from mailmapd.cli.stats_tables import plain_table

    console = Console(soft_wrap=True, highlight=False, markup=False)
    console.print(f"\nChanges of database {checked.database}")
    for host in checked.hosts:
        fault = legible(host.fault).removeprefix(f"{host.host}: ")
        console.print(f"  {legible(host.host)}: {fault or 'can be followed'}")
        for line in (host.remedy, *host.notes):
            if line:
                console.print(f"    {legible(line)}")
    if checked.drops:
        console.print()
        rows = [
            (drop.query, legible(drop.table), legible(drop.columns), drop.drops)
            for drop in checked.drops
        ]
        heads = ("QUERY", "A CHANGE IN", "OF", "DROPS")
        Console(width=200, highlight=False, markup=False).print(plain_table(heads, rows, left=4))
    for table, reason in sorted(checked.not_followed.items()):
        console.print(f"  table {table} is not followed: {legible(reason)}")


def _print(findings: Sequence[Finding]) -> None:
    """Print each finding with its remedy on lines of their own, which no width breaks: they are there to be pasted."""
    from rich.console import Console
    from rich.text import Text

    from mailmapd.check.finding import Level

    if not findings:
        say("No findings.")
        return
    colours = {Level.FAULT: "red", Level.WARNING: "yellow", Level.NOTE: "cyan"}
    console = Console(soft_wrap=True, highlight=False)
    for finding in findings:
        level = Text(finding.level.word, style=colours[finding.level])
        console.print(Text.assemble(level, f": {legible(finding.where)}"))
        for text, indent in ((finding.problem, "  "), (finding.remedy, "    ")):
            for line in legible(text, keep="\n").splitlines():
                console.print(Text(indent + line))
        console.print()
    counts = [
        f"{number} {level.word}{'s' if number != 1 else ''}"
        for level in reversed(Level)
        if (number := _count(findings, level))
    ]
    console.print(", ".join(counts))


def _count(findings: Sequence[Finding], level: int) -> int:
    return sum(finding.level == level for finding in findings)
