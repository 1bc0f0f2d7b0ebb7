"""The report of an import: what moved, what stays and why, and the lines to paste."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from mailmapd.importers.postfix.changes import Change, MovePlan
from mailmapd.importers.postfix.switch import SAVED, switch_back, switch_over

_QUEUE_DIRECTORY = "/var/spool/postfix"


def report(plan: MovePlan, written: Iterable[Path]) -> str:
    """Return the report: comments and shell lines, so that the whole of a block can be pasted."""
    return "\n".join(_lines(plan, [str(path) for path in written]))


def _lines(plan: MovePlan, written: list[str]) -> Iterator[str]:
    yield f"# Read {plan.directory}/main.cf and wrote {', '.join(written)}."
    yield "#"
    yield from _moves(plan)
    if plan.refusals:
        yield "# Not moved; these stay as they are:"
        for refusal in plan.refusals:
            yield f"#   {refusal.where}"
            yield f"#     {refusal.reason}"
        yield "#"
    for note in plan.notes:
        yield f"# {note}"
    if not plan.changes:
        yield "# Nothing can move: there is nothing to switch."
        return
    config = written[-1] if written else "mailmapd.toml"
    if plan.queue_directory != _QUEUE_DIRECTORY:
        yield f"# The queue is in {plan.queue_directory}, and the package's units are for {_QUEUE_DIRECTORY}."
        yield "# Units and folders for this instance:"
        yield f"#   mailmapd snippets systemd --config {config}"
        yield "#"
    yield "# Before switching over, with the daemon running:"
    yield f"#   mailmapd check --config {config}"
    yield f"#   mailmapd verify --config {config} --postfix {plan.directory}"
    yield "#"
    yield "# ---- Switch over: paste as root ----"
    yield switch_over(plan)
    yield "# ---- Switch back: paste as root ----"
    yield f"# Restores the files that switching over saved (…{SAVED}); changes made in between are lost."
    yield switch_back(plan)


def _moves(plan: MovePlan) -> Iterator[str]:
    yield "# Moved to mailmapd:" if plan.changes else "# Moved to mailmapd: nothing."
    for change in plan.changes:
        if change.keeps:
            continue
        yield f"#   {_name(change)}: {', '.join(change.maps) if change.maps else 'keeps its tables'}"
        if change.stays:
            yield f"#     stays in Postfix, at its place in the list: {', '.join(change.stays)}"
        for note in change.notes:
            yield f"#     {note}"
    yield "#"
    kept = [change for change in plan.changes if change.keeps]
    if kept:
        yield "# Written out, so that its meaning stays the same:"
        yield from (f"#   {_name(change)}: {change.keeps}" for change in kept)
        yield "#"


def _name(change: Change) -> str:
    service = change.service
    return (
        change.parameter
        if service is None
        else f"{change.parameter} of {service.name}/{service.type}"
    )
