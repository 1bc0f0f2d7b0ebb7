"""`mailmapd serve`: run the daemon."""

from __future__ import annotations

import click

from mailmapd.cli.options import config_option


@click.command("serve")
@config_option
def command(config_file: str) -> None:
    """Run the daemon in the foreground; log to stderr.

    SIGHUP reads the configuration again, SIGTERM finishes the lookups in flight and stops. Exit
    status 78 when the configuration is wrong; every fault is named.

    \b
    Example:
      mailmapd serve --config /etc/mailmapd/mailmapd.toml
    """
    from mailmapd.app.garbage import look_for_none_yet

    look_for_none_yet()
    from mailmapd.app.run import serve

    serve(config_file)
