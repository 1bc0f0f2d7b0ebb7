"""Reading mailmapd.toml: one call that returns a usable configuration or every fault at once."""

from __future__ import annotations

import re
import tomllib
from codecs import BOM_UTF8
from pathlib import Path

from mailmapd.config.references import reference_faults
from mailmapd.config.schema import Config
from mailmapd.config.structure import structure_config
from mailmapd.errors import ConfigError, Fault


def load_config(path: str | Path) -> Config:
    """Read and check the file.

    Raises ConfigError with every fault of syntax, type, range, unknown key or broken reference.
    """
    file = str(path)
    try:
        data = Path(path).read_bytes().removeprefix(BOM_UTF8)
    except OSError as error:
        remedy = "check the path and the permissions"
        if isinstance(error, FileNotFoundError):
            remedy = (
                "check the path; `mailmapd import` writes one from what Postfix and Dovecot use"
            )
        elif isinstance(error, PermissionError):
            remedy = "run this as root, or as an account that may read it"
        fault = Fault(file, "", f"cannot be read: {error.strerror}", remedy)
        raise ConfigError([fault]) from error
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(
            [Fault(file, f"line {line}", "is not UTF-8", "save the file as UTF-8")]
        ) from error
    return parse_config(text, file)


def parse_config(text: str, file: str) -> Config:
    """Return the configuration written in `text`.

    `file` is named in the faults and anchors relative paths. Raises ConfigError.
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError([_toml_fault(file, text, str(error))]) from error
    except RecursionError as error:
        raise ConfigError(
            [Fault(file, "", "is nested too deeply", "write plain tables")]
        ) from error
    if "file" in document:
        raise ConfigError([Fault(file, "file", "unknown key", "remove it")])
    config, faults = structure_config(file, document)
    if config is not None:
        faults += reference_faults(config)
    if faults or config is None:
        raise ConfigError(faults)
    return config


def _toml_fault(file: str, text: str, message: str) -> Fault:
    """Return a fault of TOML's grammar, with the remedy of the usual slips."""
    found = re.fullmatch(r"(.*?)(?: \(at (.*)\))?", message, re.DOTALL)
    problem, where = (found[1], found[2] or "") if found else (message, "")
    twice = re.match(r"Cannot declare \((.*)\) twice", problem)
    if twice:
        name = ".".join(re.findall(r"'([^']*)'", twice[1]))
        header = re.compile(rf"\s*\[\s*{re.escape(name)}\s*\]")
        lines = [number for number, line in enumerate(text.splitlines(), 1) if header.match(line)]
        first = f", for the first time in line {lines[0]}" if len(lines) > 1 else ""
        remedy = "put the keys of both into one section, or give one another name"
        return Fault(file, where, f"the section [{name}] is there twice{first}", remedy)
    if problem == "Cannot overwrite a value":
        return Fault(file, where, "this key has a value already", "remove one of the two lines")
    if _number_with_zero(text, where):
        remedy = 'a mode is a text in quotes, such as "0660"'
        return Fault(file, where, "a number does not begin with 0", remedy)
    remedy = "texts stand in quotes, lists in [ ]" if problem == "Invalid value" else ""
    return Fault(file, where, f"is not TOML: {problem}", remedy)


def _number_with_zero(text: str, where: str) -> bool:
    """Return whether the place is behind the first digit of a number such as 0660, which TOML does not have."""
    found = re.match(r"line (\d+), column (\d+)", where)
    if found is None:
        return False
    before = text.split("\n")[int(found[1]) - 1][: int(found[2])]
    return re.search(r"[=\[,]\s*[+-]?0\d$", before) is not None
