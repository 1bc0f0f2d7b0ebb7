"""`mailmapd trace`: the story of one lookup."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

import click

from mailmapd.cli.options import config_option
from mailmapd.cli.output import say_lines
from mailmapd.model.legible import legible, legible_bytes

if TYPE_CHECKING:
    from mailmapd.config.schema import Config
    from mailmapd.trace.dict_story import DictStep
    from mailmapd.trace.memory import Memory
    from mailmapd.trace.story import Step, Story

_MAX_ROWS = 20  # rows shown per query


@click.command("trace")
@click.argument("map_name", metavar="MAP")
@click.argument("key")
@config_option
@click.option(
    "--format",
    "output",
    type=click.Choice(("text", "json")),
    default="text",
    show_default=True,
    help="For people or for programs.",
)
@click.option(
    "--variable",
    "variables",
    metavar="NAME=VALUE",
    multiple=True,
    help="For a dict: one of Dovecot's variables, such as service=imap.",
)
@click.option(
    "--show-passwords",
    is_flag=True,
    help="Show hashes and the values of secret tables, on a terminal only.",
)
def command(  # noqa: PLR0917 (click calls it by name)
    map_name: str,
    key: str,
    config_file: str,
    output: str,
    variables: tuple[str, ...],
    show_passwords: bool,
) -> None:
    """Look KEY up in MAP and tell every step: keys in Postfix's order, tables, SQL, host, rows, time and why.

    MAP may also be a dict; then KEY is a user, and its passdb and userdb are asked. Passwords are
    hidden, and so is what a table marked as secret answers.

    The databases are asked anew; no running daemon is needed. Where one runs with a control socket,
    its memory of each query is told, too. Exit status: 0 found, 1 not found, 75 temporary failure.

    \b
    Example:
      mailmapd trace virtual_alias_maps info+news@example.com
      mailmapd trace auth info@example.com --variable service=imap
    """
    from mailmapd.cli.trace_dict import refuse_hidden_terminal
    from mailmapd.config.loader import load_config
    from mailmapd.trace.memory import remembered
    from mailmapd.trace.story import without_secrets

    refuse_hidden_terminal(show_passwords)
    config = load_config(config_file)
    if map_name in config.dicts:
        _trace_dict(config, map_name, key, output, variables, show_passwords)
        return
    story = asyncio.run(_trace(config_file, map_name, os.fsencode(key)))
    memory = remembered(config, [(step.table, step.sql_key) for step in story.steps])
    if not show_passwords:
        story = without_secrets(story)
    if output == "json":
        text = json.dumps(_as_json(story, memory), ensure_ascii=False, indent=2)
        say_lines(text)
    else:
        click.echo("\n".join(_as_text(story, memory)))
    sys.exit(_status(story))


async def _trace(config_file: str, map_name: str, key: bytes) -> Story:
    from mailmapd.config.loader import load_config
    from mailmapd.plan.assembly import assemble, plan
    from mailmapd.trace.story import HostRecorder
    from mailmapd.trace.teller import trace

    recorder = HostRecorder()
    engine = assemble(plan(load_config(config_file)), observer=recorder).engine
    map_ = engine.maps.get(map_name)
    if map_ is None:
        known = ", ".join((*engine.maps, *engine.dicts)) or "none"
        raise click.UsageError(
            f'there is no map or dict "{map_name}" in {config_file}; there are: {known}'
        )
    try:
        return await trace(map_, key, recorder, time.monotonic)
    finally:
        await engine.close()


def _trace_dict(  # noqa: PLR0917 (called once, with everything by position)
    config: Config,
    name: str,
    user: str,
    output: str,
    variables: Sequence[str],
    show_passwords: bool,
) -> None:
    from mailmapd.cli import trace_dict as shown
    from mailmapd.trace.memory import remembered

    values = shown.read_variables(os.fsencode(user), variables)
    steps = asyncio.run(_dict_steps(config.file, name, values))
    memory = remembered(config, [(step.table, step.sql_key) for step in steps])
    if output == "json":
        members = shown.as_json(name, user, steps, memory, show_passwords)
        text = json.dumps(members, ensure_ascii=False, indent=2)
        say_lines(text)
    else:
        click.echo("\n".join(shown.as_text(name, user, steps, memory, show_passwords)))
    sys.exit(shown.exit_status(steps))


async def _dict_steps(config_file: str, name: str, values: Mapping[str, bytes]) -> list[DictStep]:
    from mailmapd.config.loader import load_config
    from mailmapd.plan.assembly import assemble, plan
    from mailmapd.trace.dict_story import trace_dict
    from mailmapd.trace.story import HostRecorder

    recorder = HostRecorder()
    engine = assemble(plan(load_config(config_file)), observer=recorder).engine
    try:
        return [
            step async for step in trace_dict(engine.dicts[name], values, recorder, time.monotonic)
        ]
    finally:
        await engine.close()


def _status(story: Story) -> int:
    from mailmapd.model import Found, NotFound

    if isinstance(story.answer, Found):
        return os.EX_OK
    return 1 if isinstance(story.answer, NotFound) else os.EX_TEMPFAIL


def _text(data: bytes) -> str:
    return data.decode("utf-8", "backslashreplace")


def _as_text(story: Story, memory: Memory | None) -> Iterator[str]:
    from mailmapd.trace.meaning import meaning

    yield f"{click.style(story.map, bold=True)}  {legible_bytes(story.key)}"
    for number, (key, steps) in enumerate(groupby(story.steps, key=lambda step: step.key), start=1):
        group = list(steps)
        extension = (
            f"   (without {legible_bytes(group[0].extension)})" if group[0].extension else ""
        )
        yield f"\n{number:3}  {click.style(legible_bytes(key), bold=True)}{extension}"
        for step in group:
            yield from _step_lines(step, memory)
    yield f"\nAnswer: {_answer_text(story)}"
    if story.why:
        yield f"  {legible(story.why)}"
    sentence = meaning(story.map, story.answer)
    if sentence:
        yield f"  {sentence}"


def _step_lines(step: Step, memory: Memory | None) -> Iterator[str]:
    from mailmapd.trace.memory import described
    from mailmapd.trace.story import Event

    colours = {Event.ROWS: "green", Event.FAILED: "red"}
    event = click.style(step.event.value, fg=colours.get(step.event))
    measured = f", {step.seconds * 1000:.1f} ms" if step.sql else ""
    host = f", {step.host}" if step.host else ""
    reason = f": {legible(step.reason)}" if step.reason else ""
    yield f"       {step.table}: {event}{measured}{host}{reason}"
    if step.sql:
        yield f"         {legible(step.sql)}"
    if memory is not None and step.sql_key is not None:
        yield f"         in the daemon's memory: {described(memory[step.table, step.sql_key])}"
    rows = step.rows.rows if step.rows is not None else ()
    for row in rows[:_MAX_ROWS]:
        yield "         → " + " | ".join(
            "NULL" if value is None else legible_bytes(value) for value in row
        )
    if len(rows) > _MAX_ROWS:
        yield f"         → … {len(rows) - _MAX_ROWS} more rows"


def _answer_text(story: Story) -> str:
    from mailmapd.model import Found, NotFound

    if isinstance(story.answer, Found):
        return click.style(f"found  {legible_bytes(story.answer.value)}", fg="green")
    if isinstance(story.answer, NotFound):
        return "not found"
    return click.style(f"temporary failure: {legible(story.answer.reason)}", fg="red")


def _rows_as_json(step: Step) -> list[list[str | None]]:
    rows = () if step.rows is None else step.rows.rows
    return [[None if value is None else _text(value) for value in row] for row in rows]


def _as_json(story: Story, memory: Memory | None) -> dict[str, Any]:
    from mailmapd.model import Found, NotFound
    from mailmapd.trace.memory import as_fields

    kind = "temporary_failure"
    if isinstance(story.answer, Found):
        kind = "found"
    elif isinstance(story.answer, NotFound):
        kind = "not_found"
    steps = [
        {
            "key": _text(step.key),
            "extension": _text(step.extension),
            "table": step.table,
            "event": step.event.name.lower(),
            "sql": step.sql,
            "host": step.host,
            "seconds": round(step.seconds, 6),
            "rows": _rows_as_json(step),
            "reason": step.reason,
            "memory": as_fields(memory, step.table, step.sql_key),
        }
        for step in story.steps
    ]
    value = _text(story.answer.value) if isinstance(story.answer, Found) else None
    return {
        "map": story.map,
        "key": _text(story.key),
        "answer": kind,
        "value": value,
        "why": story.why,
        "steps": steps,
    }
