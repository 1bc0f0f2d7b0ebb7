"""systemd's units of mailmapd: which socket unit opens which listener, and what would fail at the next restart.

The unit files are read, and nobody is asked: what is started now may have been started otherwise.
Nothing is said when the service runs another configuration, or is not there.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

from mailmapd.check.finding import Finding, Level
from mailmapd.config.address import Address, UnixAddress
from mailmapd.config.schema import Config
from mailmapd.formats.systemd_unit import Unit, is_started_at_boot, read_unit, socket_units
from mailmapd.sockets.opening import wanted_sockets

_SERVICE = "mailmapd.service"
_FIRST_FREE_PORT = 1024
_CAN_WAIT = ("control", "http")  # listeners that nobody's mail depends on


def service_of(config: Config, root: Path = Path("/")) -> Unit | None:
    """Return the service if it runs this configuration; `root` is where the system is."""
    service = read_unit(root, _SERVICE)
    return service if service is not None and _runs(service, config) else None


def unit_findings(config: Config, root: Path = Path("/")) -> Iterator[Finding]:
    """Yield what the units and [listen] disagree about; `root` is where the system is."""
    service = service_of(config, root)
    if service is None:
        return
    units = list(socket_units(root, "mailmapd*.socket"))
    in_use = is_started_at_boot(root, _SERVICE) or any(unit.enabled for unit in units)
    opening = {stream: unit for unit in units for stream in unit.streams}
    wanted = {_stream(place.entry.address): place for place in wanted_sockets(config)}
    for stream, place in wanted.items():
        unit = opening.get(stream)
        if (unit is None or not unit.enabled) and not _may_open(service, place.entry.address):
            problem = f"the service may not open {stream} itself, so its next start fails: no enabled unit opens it"
            remedy = (
                f"mailmapd snippets systemd --config {shlex.quote(config.file)}"
                if unit is None
                else f"systemctl enable --now {unit.name}"
            )
            yield Finding(Level.FAULT, "socket_unit", place.where, problem, remedy)
        elif unit is not None and in_use and not unit.enabled and place.name not in _CAN_WAIT:
            problem = f"{unit.name} is not enabled: while mailmapd restarts, clients are refused at {stream}"
            remedy = f"systemctl enable {unit.name}; systemctl restart {_SERVICE}"
            yield Finding(Level.WARNING, "unit_disabled", place.where, problem, remedy)
    for unit in units:
        for stream in unit.streams:
            if unit.enabled and stream not in wanted:
                problem = f"opens {stream}, which [listen] does not name: whoever connects there waits for nothing"
                remedy = f"systemctl disable --now {unit.name}"
                yield Finding(Level.FAULT, "unit_unserved", unit.name, problem, remedy)


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
