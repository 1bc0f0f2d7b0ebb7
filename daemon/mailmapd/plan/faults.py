"""Collecting faults, so that one run of a command names all of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from mailmapd.errors import ConfigError, Fault, TemplateError


class Faults:
    """The faults found so far in one configuration file."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.found: list[Fault] = []

    @contextmanager
    def collect(self, where: str) -> Iterator[None]:
        """Turn what the block raises about the configuration into faults of the key `where`."""
        try:
            yield
        except ConfigError as error:
            self.found.extend(error.faults)
        except (TemplateError, ValueError) as error:
            self.found.append(Fault(self.file, where, str(error), ""))

    def finish(self) -> None:
        """Raise ConfigError if anything was found."""
        if self.found:
            raise ConfigError(self.found)


@contextmanager
def named_by(config_file: str, key: str) -> Iterator[None]:
    """Let a fault of a whole file, such as one that is not there, name the key that names the file."""
    try:
        yield
    except ConfigError as error:
        faults = [
            fault
            if fault.where
            else Fault(config_file, key, f"{fault.file} {fault.problem}", fault.remedy)
            for fault in error.faults
        ]
        raise ConfigError(faults) from error
