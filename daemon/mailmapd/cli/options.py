"""Options that several commands share."""

from __future__ import annotations

import click

DEFAULT_CONFIG = "/etc/mailmapd/mailmapd.toml"

config_option = click.option(
    "-c",
    "--config",
    "config_file",
    metavar="FILE",
    default=DEFAULT_CONFIG,
    show_default=True,
    help="The configuration file, see mailmapd.toml(5).",
)
