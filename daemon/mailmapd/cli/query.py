"""`mailmapd query`: one answer, as `postmap -q` gives it."""

from __future__ import annotations

import asyncio
import os
import sys

import click

from mailmapd.cli.options import config_option
from mailmapd.cli.output import say
from mailmapd.model import Answer, Found, NotFound
from mailmapd.model.legible import legible_bytes


@click.command("query")
@click.argument("map_name", metavar="MAP")
@click.argument("key")
@config_option
def command(map_name: str, key: str, config_file: str) -> None:
    """Look KEY up in MAP and print its value, as `postmap -q` does. No running daemon is needed.

    Exit status: 0 found, 1 not found, 75 temporary failure (the reason is on stderr), 2 no such
    map, 78 when the configuration is wrong.

    \b
    Example:
      mailmapd query virtual_alias_maps info@example.com
    """
    answer = asyncio.run(_ask(config_file, map_name, key))
    if isinstance(answer, Found):
        # A program gets the bytes; on a terminal they must not be obeyed
        click.echo(legible_bytes(answer.value) if sys.stdout.isatty() else answer.value)
        return
    if isinstance(answer, NotFound):
        sys.exit(1)
    say(f"mailmapd: {map_name}: {answer.reason}", err=True)
    sys.exit(os.EX_TEMPFAIL)


async def _ask(config_file: str, map_name: str, key: str) -> Answer:
    from mailmapd.config.loader import load_config
    from mailmapd.plan.assembly import assemble, plan

    engine = assemble(plan(load_config(config_file))).engine
    map_ = engine.maps.get(map_name)
    if map_ is None:
        known = ", ".join(engine.maps) or "none"
        raise click.UsageError(
            f'there is no map "{map_name}" in {config_file}; its maps are: {known}'
        )
    try:
        answer, _ = await map_.answer(os.fsencode(key))
    finally:
        await engine.close()
    return answer
