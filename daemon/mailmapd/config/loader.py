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
        raise ConfigError(
            [
                Fault(
                    file,
                    "",
                    f"cannot be read: {error.strerror}",
                    "check the path and the permissions",
                )
            ]
        ) from error
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
        where = re.search(r"\(at (.*)\)$", str(error))
        problem = re.sub(r" \(at .*\)$", "", str(error))
        raise ConfigError(
            [Fault(file, where[1] if where else "", f"is not TOML: {problem}", "")]
        ) from error
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
