"""`mailmapd snippets`: the configuration of the programs around mailmapd, for one mailmapd.toml."""

from __future__ import annotations

import click

from mailmapd.cli.options import config_option
from mailmapd.cli.output import say_lines

NAMES = ("postfix", "dovecot-2.3", "dovecot-2.4", "prometheus", "systemd")


@click.command("snippets")
@click.argument("name", type=click.Choice(NAMES))
@config_option
def command(name: str, config_file: str) -> None:
    """Print what to paste into Postfix, Dovecot, Prometheus or systemd, what it does and how to undo it.

    \b
    Example:
      mailmapd snippets postfix --config /etc/mailmapd/mailmapd.toml
    """
    from mailmapd.config.loader import load_config
    from mailmapd.snippets.dovecot import dovecot_23, dovecot_24
    from mailmapd.snippets.postfix import postfix, queue_directory_of
    from mailmapd.snippets.prometheus import prometheus
    from mailmapd.snippets.systemd import systemd

    config = load_config(config_file)
    write = {
        "postfix": lambda config: postfix(config, queue_directory_of()),
        "dovecot-2.3": dovecot_23,
        "dovecot-2.4": dovecot_24,
        "prometheus": prometheus,
        "systemd": systemd,
    }
    say_lines(write[name](config), nl=False)
