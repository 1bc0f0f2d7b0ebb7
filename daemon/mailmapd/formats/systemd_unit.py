"""Units of systemd: their files with the drop-ins that change them, see systemd.unit(5).

A unit is enabled by a link in ``sockets.target.wants`` or ``multi-user.target.wants``, and an empty
assignment forgets the ones before it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

_FOLDERS = (
    "etc/systemd/system",
    "run/systemd/system",
    "usr/lib/systemd/system",
    "lib/systemd/system",
)


@dataclass(frozen=True, slots=True)
class Unit:
    """A unit with its drop-ins: each key's values, in order, whatever section they are in."""

    name: str
    enabled: bool
    values: dict[str, list[str]] = field(default_factory=dict)

    @property
    def streams(self) -> list[str]:
        """Return the addresses that a socket unit opens, as [listen] writes them without ``unix:``."""
        return self.values.get("ListenStream", [])


def is_started_at_boot(root: Path, service: str) -> bool:
    """Return whether a service is started at boot; before that nobody has decided about its sockets either."""
    return any(
        (root / folder / "multi-user.target.wants" / service).is_symlink() for folder in _FOLDERS
    )


def socket_units(root: Path, pattern: str) -> Iterator[Unit]:
    """Yield the socket units whose names match; of a template, its enabled instances."""
    names: dict[str, None] = {}
    for folder in _FOLDERS:
        for place in (pattern, f"sockets.target.wants/{pattern}"):
            names |= {path.name: None for path in sorted((root / folder).glob(place))}
    for name in names:
        unit = None if "@." in name else read_unit(root, name)
        if unit is not None:
            yield unit


def read_unit(root: Path, name: str) -> Unit | None:
    """Return a unit as its file and drop-ins say, or None where there is no file."""
    template = f"{name.partition('@')[0]}@.socket" if "@" in name else name
    files = [root / folder / file for file in (name, template) for folder in _FOLDERS]
    main = next((file for file in files if file.is_file()), None)
    if main is None:
        return None
    drop_ins: dict[str, Path] = {}
    for file in (template, name):
        for folder in reversed(_FOLDERS):
            drop_ins |= {path.name: path for path in (root / folder / f"{file}.d").glob("*.conf")}
    enabled = any(
        (root / folder / "sockets.target.wants" / name).is_symlink() for folder in _FOLDERS[:1]
    )
    values: dict[str, list[str]] = {}
    for path in (main, *(drop_ins[key] for key in sorted(drop_ins))):
        _read(path.read_text("utf-8", "replace"), values)
    return Unit(name, enabled, values)


def _read(text: str, values: dict[str, list[str]]) -> None:
    for line in text.replace("\\\n", " ").splitlines():
        key, equals, value = line.strip().partition("=")
        if not equals or key.startswith(("#", ";", "[")):
            continue
        if value.strip():
            values.setdefault(key.strip(), []).append(value.strip())
        else:
            values[key.strip()] = []
