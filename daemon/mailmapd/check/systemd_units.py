"""systemd's units of mailmapd: which socket unit opens which listener, and what would fail at the next restart.

The unit files are read, and nobody is asked: what is started now may have been started otherwise.
A unit is enabled by a link in ``sockets.target.wants``, its drop-ins change it, and an empty
assignment forgets the ones before, see systemd.unit(5). Nothing is said when the service runs
another configuration, or is not there.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from mailmapd.check.finding import Finding, Level
from mailmapd.config.address import Address, UnixAddress
from mailmapd.config.schema import Config
from mailmapd.sockets.opening import wanted_sockets

_FOLDERS = (
    "etc/systemd/system",
    "run/systemd/system",
    "usr/lib/systemd/system",
    "lib/systemd/system",
)
_SERVICE = "mailmapd.service"
_FIRST_FREE_PORT = 1024
_CAN_WAIT = ("control", "http")  # listeners that nobody's mail depends on


@dataclass(frozen=True, slots=True)
class Unit:
    """A unit with its drop-ins: each key's values, in order, whatever section they are in."""

    name: str
    enabled: bool
    values: dict[str, list[str]] = field(default_factory=dict)

    @property
    def streams(self) -> list[str]:
        """The addresses that a socket unit opens, as [listen] writes them without ``unix:``."""
        return self.values.get("ListenStream", [])


def unit_findings(config: Config, root: Path = Path("/")) -> Iterator[Finding]:
    """Yield what the units and [listen] disagree about; `root` is where the system is."""
    service = _unit(root, _SERVICE)
    if service is None or not _runs(service, config):
        return
    units = list(_socket_units(root))
    in_use = _is_enabled(root) or any(unit.enabled for unit in units)
    opening = {stream: unit for unit in units for stream in unit.streams}
    wanted = {_stream(one.entry.address): one for one in wanted_sockets(config)}
    for stream, one in wanted.items():
        unit = opening.get(stream)
        if (unit is None or not unit.enabled) and not _may_open(service, one.entry.address):
            problem = f"the service may not open {stream} itself, so its next start fails: no enabled unit opens it"
            remedy = (
                f"mailmapd snippets systemd --config {shlex.quote(config.file)}"
                if unit is None
                else f"systemctl enable --now {unit.name}"
            )
            yield Finding(Level.FAULT, "socket_unit", one.where, problem, remedy)
        elif unit is not None and in_use and not unit.enabled and one.name not in _CAN_WAIT:
            problem = f"{unit.name} is not enabled: while mailmapd restarts, clients are refused at {stream}"
            remedy = f"systemctl enable {unit.name}; systemctl restart {unit.name} {_SERVICE}"
            yield Finding(Level.WARNING, "unit_disabled", one.where, problem, remedy)
    for unit in units:
        for stream in unit.streams:
            if unit.enabled and stream not in wanted:
                problem = f"opens {stream}, which [listen] does not name: whoever connects there waits for nothing"
                remedy = f"systemctl disable --now {unit.name}"
                yield Finding(Level.FAULT, "unit_unserved", unit.name, problem, remedy)


def _is_enabled(root: Path) -> bool:
    """Return whether the service is started at boot; before that nobody has decided about its sockets either."""
    return any(
        (root / folder / "multi-user.target.wants" / _SERVICE).is_symlink() for folder in _FOLDERS
    )


def _stream(address: Address) -> str:
    return address.path if isinstance(address, UnixAddress) else str(address)


def _runs(service: Unit, config: Config) -> bool:
    """Return whether the service runs this configuration."""
    file = Path(config.file).absolute()
    return any(str(file) in shlex.split(line) for line in service.values.get("ExecStart", []))


def _may_open(service: Unit, address: Address) -> bool:
    """Return whether the service's sandbox lets it make the socket."""
    if not isinstance(address, UnixAddress):
        return address.port >= _FIRST_FREE_PORT
    if service.values.get("ProtectSystem", [""])[-1] != "strict":
        return True
    writable = [word.lstrip("-+") for word in _words(service, "ReadWritePaths")]
    writable += [f"/run/{word}" for word in _words(service, "RuntimeDirectory")]
    return any(Path(address.path).is_relative_to(folder) for folder in writable)


def _words(unit: Unit, key: str) -> list[str]:
    return [word for line in unit.values.get(key, []) for word in line.split()]


def _socket_units(root: Path) -> Iterator[Unit]:
    """Yield the socket units of mailmapd; of a template, its enabled instances."""
    names: dict[str, None] = {}
    for folder in _FOLDERS:
        for pattern in ("mailmapd*.socket", "sockets.target.wants/mailmapd*.socket"):
            names |= {path.name: None for path in sorted((root / folder).glob(pattern))}
    for name in names:
        unit = None if "@." in name else _unit(root, name)
        if unit is not None:
            yield unit


def _unit(root: Path, name: str) -> Unit | None:
    """Return a unit as its file and drop-ins say, or None where there is no file."""
    template = f"{name.partition('@')[0]}@.socket" if "@" in name else name
    files = [root / folder / one for one in (name, template) for folder in _FOLDERS]
    main = next((file for file in files if file.is_file()), None)
    if main is None:
        return None
    drop_ins: dict[str, Path] = {}
    for one in (template, name):
        for folder in reversed(_FOLDERS):
            drop_ins |= {path.name: path for path in (root / folder / f"{one}.d").glob("*.conf")}
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
