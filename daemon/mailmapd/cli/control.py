"""The running daemon, for the commands that speak to it: its socket, and exit statuses as in sysexits.h.

64  wrong usage            75  no daemon answers
65  unknown table or map   77  no permission
70  a defect               78  the configuration file names no control socket
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from mailmapd.cli.options import DEFAULT_CONFIG, config_option
from mailmapd.cli.output import say
from mailmapd.config.address import Address, UnixAddress, parse_address
from mailmapd.config.schema import DEFAULT_CONTROL
from mailmapd.model.legible import legible

if TYPE_CHECKING:
    from mailmapd.control.client import ControlClient

F = TypeVar("F", bound=Callable[..., Any])

_STATUSES = {
    "unreachable": os.EX_TEMPFAIL,
    "no_permission": os.EX_NOPERM,
    "malformed": os.EX_USAGE,
    "too_long": os.EX_USAGE,
    "bad_request": os.EX_USAGE,
    "unknown_name": os.EX_DATAERR,
    "busy": os.EX_TEMPFAIL,
    "unavailable": os.EX_TEMPFAIL,
    "failed": os.EX_SOFTWARE,
}

_NAME_IT = f"name the socket with --socket {DEFAULT_CONTROL.address} (the usual one)"

_socket_option = click.option(
    "--socket",
    "address",
    metavar="ADDRESS",
    help="The daemon's control socket; default: listen.control of the configuration file.",
)


def control_options(function: F) -> F:
    """Add the options that tell where the daemon is."""
    return config_option(_socket_option(function))


class WrongUsage(click.UsageError):
    """A usage error with the status of sysexits.h."""

    exit_code = os.EX_USAGE

    def format_message(self) -> str:
        """Return the text for a terminal."""
        return legible(super().format_message(), keep="\n")


class WrongConfig(click.ClickException):
    """The configuration file does not say where the daemon is."""

    exit_code = os.EX_CONFIG

    def format_message(self) -> str:
        """Return the text for a terminal."""
        return legible(super().format_message())


class ControlCommand(click.Command):
    """A command that speaks to the daemon; a refusal ends it with its message and status."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the options; wrong ones have the status of sysexits.h."""
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as error:
            raise WrongUsage(error.format_message(), error.ctx) from None

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        from mailmapd.control.client import ControlError

        try:
            return super().invoke(ctx)
        except ControlError as error:
            say(f"mailmapd: {error}", err=True)
            ctx.exit(_STATUSES[error.word])


def connect(config_file: str, address: str | None) -> ControlClient:
    """Return a connection to the daemon. Raises ControlError, and click's errors for a missing or wrong address."""
    from mailmapd.control.client import ControlClient

    try:
        found = parse_address(_configured(config_file) if address is None else address)
    except ValueError as error:
        raise WrongUsage(str(error)) from None
    if not isinstance(found, UnixAddress):
        raise WrongUsage(f'{found} is no UNIX socket; write "unix:/run/mailmapd/control"')
    return ControlClient(found.path)


def _configured(config_file: str) -> str:
    """Return `listen.control`.

    Nothing else in the file is looked at: the daemon may run on while it is being edited. Whoever
    has no usual file, or may not read it, may still be let in at the usual socket.
    """
    usual = DEFAULT_CONTROL.address
    try:
        listen = tomllib.loads(Path(config_file).read_text(encoding="utf-8-sig")).get("listen", {})
        control = listen.get("control", str(DEFAULT_CONTROL.address))
        found = control.get("address") if isinstance(control, dict) else control
    except OSError as error:
        if config_file == DEFAULT_CONFIG and _is_there(usual):
            return str(usual)
        raise WrongConfig(f"{config_file}: {error.strerror}; {_remedy(error)}") from None
    except UnicodeDecodeError:
        raise WrongConfig(f"{config_file}: is not UTF-8; correct it, or {_NAME_IT}") from None
    except tomllib.TOMLDecodeError as error:
        raise WrongConfig(
            f"{config_file}: is not TOML: {error}; correct it, or {_NAME_IT}"
        ) from None
    except AttributeError:
        raise WrongConfig(
            f"{config_file}: listen is no section; correct it, or {_NAME_IT}"
        ) from None
    if not isinstance(found, str):
        word = "false" if control is False else "no address"
        raise WrongConfig(
            f"{config_file}: listen.control is {word}; write control = "
            '"unix:/run/mailmapd/control" in [listen] and reload'
        )
    return found


def _remedy(error: OSError) -> str:
    """Return what to do about a configuration that cannot be read."""
    if isinstance(error, PermissionError):
        return f"run this as root, or {_NAME_IT}, which the members of its group may use"
    return (
        f"say with which one the daemon runs (--config FILE), or {_NAME_IT}; "
        "where none runs yet, mailmapd import writes one, and systemctl start mailmapd.service starts it"
    )


def _is_there(address: Address) -> bool:
    """Return whether a socket can be seen from here."""
    return isinstance(address, UnixAddress) and os.path.exists(address.path)  # noqa: PTH110 - no error
