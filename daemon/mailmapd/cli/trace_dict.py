"""The story of `mailmapd trace DICT USER`: each table's SQL and the fields that Dovecot would get, passwords hidden."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import click

from mailmapd.engine.dicts.fields import mask_secrets
from mailmapd.model import Found, NotFound
from mailmapd.model.legible import legible
from mailmapd.template.dovecot_variables import BOUNDED, FREE, canonical_name
from mailmapd.trace.dict_story import DictStep
from mailmapd.trace.memory import Memory, as_fields, described


def read_variables(user: bytes, given: Sequence[str]) -> dict[str, bytes]:
    """Return the variables' values from ``NAME=VALUE`` options.

    Raises click.UsageError for a name that Dovecot does not have.
    """
    values = {"user": user}
    for text in given:
        name, equals, value = text.partition("=")
        name = canonical_name(name)
        if not equals or name not in (*BOUNDED, *FREE):
            raise click.UsageError(
                f"--variable {text}: write NAME=VALUE, with one of {', '.join((*BOUNDED, *FREE))}"
            )
        values[name] = os.fsencode(value)
    return values


def refuse_hidden_terminal(show_passwords: bool) -> None:
    """Raise click.UsageError when passwords would go to a file or a pipe."""
    if show_passwords and not sys.stdout.isatty():
        raise click.UsageError(
            "--show-passwords works on a terminal only, so that no hash ends in a file by accident"
        )


def as_text(
    name: str, user: str, steps: Sequence[DictStep], memory: Memory | None, show_passwords: bool
) -> Iterator[str]:
    """Yield the lines for people."""
    yield f"{click.style(name, bold=True)}  {legible(user)}"
    for step in steps:
        yield f"\n{click.style(step.namespace, bold=True)}  {step.table}: {_word(step)}{_measured(step)}"
        if step.sql:
            yield f"  {legible(step.sql)}"
        if memory is not None and step.sql_key is not None:
            yield f"  in the daemon's memory: {described(memory[step.table, step.sql_key])}"
        if isinstance(step.answer, Found):
            for field, value in _fields(step, show_passwords).items():
                yield f"  → {legible(field)} = {legible(value)}"


def as_json(
    name: str, user: str, steps: Sequence[DictStep], memory: Memory | None, show_passwords: bool
) -> dict[str, Any]:
    """Return the story for programs."""
    shown = [
        {
            "namespace": step.namespace,
            "table": step.table,
            "answer": _kind(step).replace(" ", "_"),
            "reason": "" if isinstance(step.answer, Found | NotFound) else step.answer.reason,
            "sql": step.sql,
            "host": step.host,
            "seconds": round(step.seconds, 6),
            "fields": _fields(step, show_passwords) if isinstance(step.answer, Found) else None,
            "memory": as_fields(memory, step.table, step.sql_key),
        }
        for step in steps
    ]
    return {"dict": name, "user": user, "steps": shown}


def exit_status(steps: Sequence[DictStep]) -> int:
    """Return 75 when any table could not tell, 1 when none knows the user, else 0."""
    if any(not isinstance(step.answer, Found | NotFound) for step in steps):
        return os.EX_TEMPFAIL
    return os.EX_OK if any(isinstance(step.answer, Found) for step in steps) else 1


def _fields(step: DictStep, show_passwords: bool) -> dict[str, str]:
    value = step.answer.value if isinstance(step.answer, Found) else b"{}"
    text = value if show_passwords else mask_secrets(value)
    fields: dict[str, str] = json.loads(text.decode("utf-8", "backslashreplace"), strict=False)
    return fields


def _kind(step: DictStep) -> str:
    if isinstance(step.answer, Found):
        return "found"
    return "not found" if isinstance(step.answer, NotFound) else "temporary failure"


def _word(step: DictStep) -> str:
    if isinstance(step.answer, Found):
        return click.style(_kind(step), fg="green")
    return (
        _kind(step)
        if isinstance(step.answer, NotFound)
        else click.style(f"{_kind(step)}: {legible(step.answer.reason)}", fg="red")
    )


def _measured(step: DictStep) -> str:
    if not step.sql:
        return ""
    host = f", {step.host}" if step.host else ""
    return f", {step.seconds * 1000:.1f} ms{host}"
