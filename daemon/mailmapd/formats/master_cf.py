"""master.cf: the services, and the main.cf parameters that their ``-o`` options override, see master(5).

    submission inet n - y - - smtpd -o name=value -o { name = value with blanks }

A service without options sees main.cf as it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mailmapd.errors import ConfigError, Fault
from mailmapd.formats.logical_lines import BLANKS, logical_lines, read_text
from mailmapd.formats.map_list import bundle_content, split_list

_COLUMNS = 8  # name, type, private, unprivileged, chroot, wakeup, maxproc, command


@dataclass(frozen=True, slots=True)
class Service:
    """One service: `overrides` holds its ``-o name=value`` options, the last of equal ones."""

    name: str
    type: str
    command: str
    chroot: bool
    line: int
    overrides: dict[str, str]

    def where(self, parameter: str) -> str:
        """Return the place of an option, to name it in a message."""
        return f"master.cf line {self.line}: {self.name}/{self.type} -o {parameter}"


def is_chrooted_by_default(compatibility_level: str) -> bool:
    """Return whether a service with ``-`` in the column is chrooted, as it was before level 1."""
    return compatibility_level.strip().partition(".")[0] in ("", "0")


def read_master_cf(
    directory: Path, name: str = "master.cf", *, chroot_by_default: bool = False
) -> tuple[Service, ...]:
    """Read a master.cf (or its copy `name`); a directory without one has no services. Raises ConfigError."""
    path = directory / name
    if not path.exists():
        return ()
    text = read_text(path)
    return tuple(parse_master_cf(text, str(path), chroot_by_default=chroot_by_default))


def parse_master_cf(text: str, file: str, *, chroot_by_default: bool = False) -> Iterator[Service]:
    """Yield the services of `text`. Raises ConfigError for a line with too few columns or a broken option."""
    for line in logical_lines(text):
        if line.continues_nothing:
            continue
        columns = split_list(line.text, BLANKS)
        if len(columns) < _COLUMNS:
            problem = f"a service has {_COLUMNS} columns, this line has {len(columns)}"
            raise ConfigError([Fault(file, f"line {line.number}", problem, "see master(5)")])
        overrides = dict(_options(columns[_COLUMNS:], f"line {line.number}", file))
        chroot = columns[4] == "y" or (columns[4] == "-" and chroot_by_default)
        yield Service(columns[0], columns[1], columns[7], chroot, line.number, overrides)


def _options(arguments: list[str], where: str, file: str) -> Iterator[tuple[str, str]]:
    index = 0
    while index < len(arguments) and arguments[index].startswith("-") and arguments[index] != "--":
        argument = arguments[index]
        index += 1
        flag = argument.find("o", 1)
        if flag < 0:
            continue
        option = argument[flag + 1 :]
        if not option:
            if index == len(arguments):
                raise ConfigError(
                    [Fault(file, where, 'nothing follows "-o"', "write -o name=value")]
                )
            option = arguments[index]
            index += 1
        if option.startswith("{"):
            option = bundle_content(option)
        name, equals, value = option.partition("=")
        if not equals:
            raise ConfigError(
                [
                    Fault(
                        file,
                        where,
                        f'"-o {option}" has no "="',
                        "write -o name=value, or -o { name = value }",
                    )
                ]
            )
        yield name.strip(BLANKS), value.strip(BLANKS)
