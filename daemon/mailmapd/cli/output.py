"""Output: what a command says on a terminal is text, whoever wrote a part of it.

Answers, errors of servers, names of hosts and files come from outside. What has colours is made legible where it is put
together; everything else goes this way.
"""

from __future__ import annotations

import click

from mailmapd.model.legible import legible


def say(line: str = "", *, err: bool = False) -> None:
    """Write one line, whatever it holds."""
    click.echo(legible(line), err=err)


def say_lines(text: str, *, nl: bool = True) -> None:
    """Write text that we have laid out ourselves: its line feeds and tabs are ours."""
    click.echo(legible(text, keep="\n\t"), nl=nl)
