"""The lines to paste into a root shell: one block switches Postfix over to mailmapd, the other back.

Switching back restores the saved files themselves, byte for byte; ``postconf -e`` alone would leave
multi-line values on one line. Pasting a block twice does no harm: a saved file is never
overwritten.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from mailmapd.importers.postfix.changes import Change, Plan

SAVED = ".before-mailmapd"
"""What is appended to a file's name to keep it as it was."""


def switch_over(plan: Plan) -> str:
    """Return the lines that make Postfix ask mailmapd."""
    main = [change for change in plan.changes if change.service is None]
    master = [change for change in plan.changes if change.service is not None]
    lines = [_save(path) for path in _files(plan)]
    if main:
        lines += _command(plan, "-e", [f"{change.parameter} = {change.value}" for change in main])
    if master:
        lines += _command(plan, "-P", [_service_setting(change) for change in master])
    return "\n".join([*lines, _reload(plan)]) + "\n"


def switch_back(plan: Plan) -> str:
    """Return the lines that restore the configuration as it was."""
    restored = " && ".join(
        f"mv -f {shlex.quote(path + SAVED)} {shlex.quote(path)}" for path in _files(plan)
    )
    return f"{restored} && {_reload(plan)}\n"


def _files(plan: Plan) -> Iterator[str]:
    yield str(plan.directory / "main.cf")
    if any(change.service is not None for change in plan.changes):
        yield str(plan.directory / "master.cf")


def _save(path: str) -> str:
    saved = shlex.quote(path + SAVED)
    return f"[ -e {saved} ] || cp -p {shlex.quote(path)} {saved}"


def _command(plan: Plan, option: str, assignments: list[str]) -> list[str]:
    lines = [f"postconf -c {shlex.quote(str(plan.directory))} {option} \\"]
    lines += [f"  {shlex.quote(assignment)} \\" for assignment in assignments[:-1]]
    return [*lines, f"  {shlex.quote(assignments[-1])}"]


def _service_setting(change: Change) -> str:
    service = change.service
    if service is None:
        raise ValueError("not a master.cf option")
    return f"{service.name}/{service.type}/{change.parameter}={change.value}"


def _reload(plan: Plan) -> str:
    return f"postfix -c {shlex.quote(str(plan.directory))} reload"
