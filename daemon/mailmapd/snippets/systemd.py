"""systemd for a configuration: the shipped units, and drop-ins for what this configuration has elsewhere."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from mailmapd.config.address import UnixAddress
from mailmapd.config.files import values_of
from mailmapd.config.schema import Config, ListenAddress, SecretFile
from mailmapd.snippets.program import Program, this_program
from mailmapd.snippets.shipped import shipped
from mailmapd.sockets.units import SOCKET_UNITS

_DEFAULT_CONFIG = "/etc/mailmapd/mailmapd.toml"
_WRITABLE = ("/run/mailmapd", "/var/spool/postfix/mailmapd", "/var/lib/mailmapd")


def systemd(config: Config, program: Program | None = None) -> str:
    """Return shell lines that install the units, with every file's text; they start `program`, or this one."""
    return "\n".join(_lines(config, program or this_program()))


def _lines(config: Config, program: Program) -> Iterator[str]:
    sockets = dict(_sockets(config))
    yield (
        f"# systemd's units for {config.file}: start mailmapd at boot, and hold its sockets "
        "open while it restarts. Paste as root."
    )
    yield (
        "# (The Debian package brings the units themselves; then only the drop-ins and the "
        "last lines are of interest.)"
    )
    yield f"# Undo: systemctl disable --now {' '.join([*sockets, 'mailmapd.service'])}"
    yield "#       rm -r /etc/systemd/system/mailmapd*; systemctl daemon-reload"
    for name in ("mailmapd.service", *sockets):
        unit = shipped(f"systemd/{name}").read_text().replace(Program().path, program.path)
        yield from _file(f"/etc/systemd/system/{name}", unit)
    yield from _file(
        "/etc/sysusers.d/mailmapd.conf", shipped("systemd/sysusers.d/mailmapd.conf").read_text()
    )
    yield from _file(
        "/etc/tmpfiles.d/mailmapd.conf", shipped("systemd/tmpfiles.d/mailmapd.conf").read_text()
    )
    service = "\n".join(_service(config, program))
    if service:
        yield from _file(
            "/etc/systemd/system/mailmapd.service.d/local.conf", f"[Service]\n{service}\n"
        )
    for name, entries in sockets.items():
        lines = "\n".join(_socket(shipped(f"systemd/{name}").read_text(), entries))
        if lines:
            yield from _file(f"/etc/systemd/system/{name}.d/local.conf", f"[Socket]\n{lines}\n")
    yield ""
    yield "systemd-sysusers; systemd-tmpfiles --create; systemctl daemon-reload"
    yield (
        f"systemctl enable --now {' '.join(sockets)}"
        if sockets
        else "# no socket of this configuration has a unit"
    )
    yield "systemctl enable --now mailmapd.service"
    yield ""


def _file(path: str, text: str) -> Iterator[str]:
    yield ""
    yield f"install -d {Path(path).parent}"
    yield f"cat >{path} <<'END'"
    yield text.rstrip("\n")
    yield "END"


def _service(config: Config, program: Program) -> Iterator[str]:
    file = str(Path(config.file).absolute())
    if file != _DEFAULT_CONFIG:
        yield f"ExecStart=\nExecStart={program.path} serve --config {file}"
        yield f"ExecReload=\nExecReload={program.path} reload --config {file}"
    yield from program.settings()
    loaded = _loaded()
    for name in sorted({name for _, name in values_of(config, SecretFile)}):
        if (
            not name.startswith("/")
            and name not in loaded
            and not (Path(file).parent / name).exists()
        ):
            yield f"LoadCredential={name}"
    listen = config.listen
    entries = [
        *listen.socketmap,
        *listen.dicts,
        *filter(None, (listen.http, listen.control, listen.lookup_http, listen.webhook)),
    ]
    folders = {
        str(Path(entry.address.path).parent)
        for entry in entries
        if isinstance(entry.address, UnixAddress)
    }
    if config.state.directory is not None:
        folders.add(str(Path(file).parent / config.state.directory))
    for folder in sorted(folders.difference(_WRITABLE)):
        yield f"ReadWritePaths=-{folder}"


def _sockets(config: Config) -> Iterator[tuple[str, tuple[ListenAddress, ...]]]:
    """Yield the socket units for the configuration, each with the addresses that it opens."""
    listen = config.listen
    for listener, entries in (
        ("socketmap", listen.socketmap),
        ("dict", listen.dicts),
        ("lookup_http", tuple(filter(None, (listen.lookup_http,)))),
        ("http", tuple(filter(None, (listen.http,)))),
        ("control", tuple(filter(None, (listen.control,)))),
    ):
        if entries:
            yield SOCKET_UNITS[listener], entries


def _socket(unit: str, entries: Sequence[ListenAddress]) -> Iterator[str]:
    """Yield what a shipped unit must say otherwise: its addresses, and who may connect to them."""
    settings = dict(re.findall(r"(?m)^(\w+)=(.*)$", unit))
    streams = [_stream(entry) for entry in entries]
    if streams != [settings["ListenStream"]]:
        yield "ListenStream="
        yield from (f"ListenStream={stream}" for stream in streams)
    first = entries[0]
    if isinstance(first.address, UnixAddress):
        mode = None if first.mode is None else f"{first.mode:04o}"
        for key, value in (
            ("SocketUser", first.owner),
            ("SocketGroup", first.group),
            ("SocketMode", mode),
        ):
            if value is not None and value != settings.get(key):
                yield f"{key}={value}"


def _stream(entry: ListenAddress) -> str:
    return entry.address.path if isinstance(entry.address, UnixAddress) else str(entry.address)


def _loaded() -> set[str]:
    """Return the secrets that the shipped unit loads by itself."""
    unit = shipped("systemd/mailmapd.service").read_text()
    return set(re.findall(r"^LoadCredential=(\S+)$", unit, re.MULTILINE))
