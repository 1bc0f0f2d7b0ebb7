"""The lines to paste into a root shell: one block switches Postfix over to mailmapd, the other back.

Switching back restores the saved files themselves, byte for byte; ``postconf -e`` alone would leave
multi-line values on one line. Pasting a block twice does no harm: files that ask mailmapd already
are not saved over those that do not. After a second import the old values go back into today's
files first, and those are saved; what was saved before is kept once more.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from mailmapd.importers.postfix.changes import SAVED, SOCKET_IN_QUEUE, Change, MovePlan, Restore

_OLDER = f"{SAVED}.old"
"""The name of a saved file once a second import has saved another one."""


def switch_over(plan: MovePlan) -> str:
    """Return the lines that make Postfix ask mailmapd."""
    main = [change for change in plan.changes if change.service is None]
    master = [change for change in plan.changes if change.service is not None]
    lines = [*_restore(plan), *_save(plan)]
    if main:
        lines += _command(plan, "-e", [f"{change.parameter} = {change.value}" for change in main])
    if master:
        lines += _command(plan, "-P", [f"{_option(change)}={change.value}" for change in master])
    return "\n".join([*lines, _reload(plan)]) + "\n"


def _restore(plan: MovePlan) -> Iterator[str]:
    """Yield the lines that take mailmapd out of today's files, which are to be saved then."""
    if plan.restores:
        yield "# As today's files would be without mailmapd; these are what is saved:"
    main = [restore for restore in plan.restores if restore.service is None]
    master = [restore for restore in plan.restores if restore.service is not None]
    for option, removal, found in (("-e", "-X", main), ("-P", "-PX", master)):
        values = [change for change in found if change.value is not None]
        gone = [change for change in found if change.value is None]
        if values and option == "-e":
            yield from _command(
                plan, option, [f"{value.parameter} = {value.value}" for value in values]
            )
        elif values:
            yield from _command(
                plan, option, [f"{_option(value)}={value.value}" for value in values]
            )
        if gone:
            names = [
                change.parameter if change.service is None else _option(change) for change in gone
            ]
            yield from _command(plan, removal, names)


def _save(plan: MovePlan) -> Iterator[str]:
    """Yield the lines that save the files, unless they ask mailmapd already."""
    test = ""
    if not plan.restores:
        files = " ".join(shlex.quote(path) for path in _files(plan))
        test = f"grep -qs 'socketmap:unix:{SOCKET_IN_QUEUE}:' {files} || "
    for path in _files(plan):
        file, saved, older = (shlex.quote(path + end) for end in ("", SAVED, _OLDER))
        kept = f"{{ [ ! -e {saved} ] || mv -f {saved} {older}; }}"
        yield f"{test}{{ {kept}; cp -p {file} {saved}; }}"


def switch_back(plan: MovePlan) -> str:
    """Return the lines that restore the configuration as it was."""
    restored = " && ".join(
        f"mv -f {shlex.quote(path + SAVED)} {shlex.quote(path)}" for path in _files(plan)
    )
    return f"{restored} && {_reload(plan)}\n"


def _files(plan: MovePlan) -> Iterator[str]:
    yield str(plan.directory / "main.cf")
    touched: list[Change | Restore] = [*plan.changes, *plan.restores]
    if any(change.service is not None for change in touched):
        yield str(plan.directory / "master.cf")


def _command(plan: MovePlan, option: str, assignments: list[str]) -> list[str]:
    lines = [f"postconf -c {shlex.quote(str(plan.directory))} {option} \\"]
    lines += [f"  {shlex.quote(assignment)} \\" for assignment in assignments[:-1]]
    return [*lines, f"  {shlex.quote(assignments[-1])}"]


def _option(change: Change | Restore) -> str:
    service = change.service
    if service is None:
        raise ValueError("not a master.cf option")
    return f"{service.name}/{service.type}/{change.parameter}"


def _reload(plan: MovePlan) -> str:
    return f"postfix -c {shlex.quote(str(plan.directory))} reload"


__all__ = ["SAVED", "switch_back", "switch_over"]
