"""`mailmapd reload`: have the running daemon read its configuration again, and wait for what comes of it."""

from __future__ import annotations

import os
import signal

import click

from mailmapd.cli.control import ControlCommand, WrongConfig, connect, control_options
from mailmapd.cli.options import DEFAULT_CONFIG
from mailmapd.cli.output import say
from mailmapd.config.schema import DEFAULT_CONTROL


@click.command("reload", cls=ControlCommand)
@control_options
def command(config_file: str, address: str | None) -> None:
    """Have the running daemon read its configuration again; return when the new one is in force.

    A wrong configuration changes nothing: every fault is printed, and the exit status is 78.
    `systemctl reload mailmapd` runs this command. A daemon without a control socket is told by
    SIGHUP, if systemd says which process it is ($MAINPID); the configuration is checked first then.

    Exit status: 0 in force, 75 no daemon answers, 77 no permission, 78 a wrong configuration.

    \b
    Example:
      mailmapd reload
    """
    from mailmapd.control.client import ControlError

    try:
        faults = _reload(config_file, address)
    except ControlError as error:
        process = os.environ.get("MAINPID", "")
        if error.word != "unreachable" or not process.isdigit():
            raise
        os.kill(int(process), signal.SIGHUP)  # also when it is wrong: the daemon shows that
        faults = _faults(config_file)
    for fault in faults:
        say(f"mailmapd: reload refused, the old configuration stays: {fault}", err=True)
    if faults:
        raise SystemExit(os.EX_CONFIG)


def _reload(config_file: str, address: str | None) -> list[str]:
    """Ask the daemon. One of the default configuration is found also while its file is no TOML at all."""
    try:
        with connect(config_file, address) as daemon:
            return daemon.reload()
    except WrongConfig:
        if config_file != DEFAULT_CONFIG:
            raise
    with connect(config_file, str(DEFAULT_CONTROL.address)) as daemon:
        return daemon.reload()


def _faults(config_file: str) -> list[str]:
    from mailmapd.config.loader import load_config
    from mailmapd.errors import ConfigError
    from mailmapd.plan.assembly import plan

    try:
        plan(load_config(config_file))
    except ConfigError as error:
        return [str(fault) for fault in error.faults]
    return []
