"""The installed program and its place, as the units must know it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_PACKAGED = "/usr/bin/mailmapd"
_EXECUTABLE = ("/usr", "/opt", "/lib", "/lib64")  # ExecPaths= of the unit
_HOMES = ("/home", "/root", "/run/user")  # what ProtectHome= hides
_HIDDEN = (*_HOMES, "/tmp", "/var/tmp")  # noqa: S108 (and what PrivateTmp= hides)


@dataclass(frozen=True)
class Program:
    """The path of the program, and the folders that it needs: its virtual environment, and that one's Python."""

    path: str = _PACKAGED
    folders: tuple[str, ...] = ()

    def settings(self) -> Iterator[str]:
        """Yield the settings that the unit needs beside the path."""
        for folder in self.folders:
            if not _below(folder, _EXECUTABLE):
                yield f"ExecPaths={folder}"
        if any(_below(folder, _HOMES) for folder in self.folders):
            # Empty ones in their place, as ProtectHome=tmpfs makes them; but that one lets nobody but root into /root.
            yield "ProtectHome=no"
            yield f"TemporaryFileSystem={' '.join(f'{home}:ro' for home in _HOMES)}"
        for folder in self.folders:
            if _below(folder, _HIDDEN):
                yield f"BindReadOnlyPaths={folder}"


def this_program() -> Program:
    """Return the program that is running: pip's, uv's or pipx's, or that of the Debian package."""
    if Path(sys.prefix) == Path(sys.base_prefix):
        started = Path(sys.argv[0]).absolute()
        return Program(str(started) if started.name == "mailmapd" else _PACKAGED)
    folders = dict.fromkeys((sys.prefix, str(Path(sys.executable).resolve().parents[1])))
    return Program(str(Path(sys.prefix) / "bin" / "mailmapd"), tuple(folders))


def _below(folder: str, places: tuple[str, ...]) -> bool:
    return any(Path(folder).is_relative_to(place) for place in places)
