"""The syntax of Postfix's .cf files for tables: logical lines of ``name = value`` (readlline(3), split_nameval(3)).

    # a comment; also between the lines of one value, where it does not end it
    query = SELECT goto FROM alias      a line that begins with white space goes on with the one before,
        WHERE address = '%s'            and keeps that white space
    user=postfix                        blanks around the = do not matter, a return before the newline is one

``$name`` means nothing here: Postfix replaces it in main.cf, not in these files. The last of several equal names wins.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from mailmapd.errors import ConfigError, Fault
from mailmapd.formats.logical_lines import logical_lines

_SPACE = b" \t\n\v\f\r"
_NAME_AND_VALUE = re.compile(rb"([^\s=]+)\s*=(.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter and the line where it begins."""

    value: bytes
    line: int


@dataclass(slots=True)
class CfFile:
    """The parameters of a file. `warnings` are what Postfix would log and go on."""

    file: str
    parameters: dict[str, Parameter] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def read_cf_file(path: Path) -> CfFile:
    """Read a file; raise ConfigError, with every fault, when it cannot be read or Postfix would refuse it."""
    try:
        text = path.read_bytes()
    except OSError as error:
        fault = Fault(
            str(path),
            "",
            f"cannot be read: {error.strerror}",
            "correct the path, or let the daemon's user read the file",
        )
        raise ConfigError([fault]) from error
    found = CfFile(str(path))
    faults: list[Fault] = []
    for logical in logical_lines(text.decode("utf-8", "surrogateescape")):
        number, line = logical.number, logical.text.encode("utf-8", "surrogateescape")
        where = f"line {number}"
        if logical.continues_nothing:
            found.warnings.append(
                f"{found.file}: {where}: ignored, because it begins with white space and continues nothing"
            )
            continue
        parts = _NAME_AND_VALUE.match(line)
        if b"\0" in line:
            faults.append(Fault(found.file, where, "holds a NUL byte", "remove it"))
        elif parts is None:
            missing = (
                "the name before '=' is missing"
                if line.startswith(b"=")
                else "the '=' after the name is missing"
            )
            faults.append(
                Fault(found.file, where, missing, "write name = value, or # in front of a comment")
            )
        else:
            _set(
                found,
                parts[1].decode("utf-8", "surrogateescape"),
                Parameter(parts[2].strip(_SPACE), number),
            )
    if faults:
        raise ConfigError(faults)
    return found


def _set(found: CfFile, name: str, parameter: Parameter) -> None:
    earlier = found.parameters.get(name)
    if earlier is not None and earlier.value != parameter.value:
        # Neither value is shown: it may be a password.
        found.warnings.append(
            f"{found.file}: line {parameter.line}: {name} replaces the one of line {earlier.line}"
        )
    found.parameters[name] = parameter
