"""`mailmapd flush`: let the running daemon forget."""

from __future__ import annotations

import os

import click

from mailmapd.cli.control import ControlCommand, WrongUsage, connect, control_options
from mailmapd.cli.output import say
from mailmapd.config.duration import parse_duration
from mailmapd.model.legible import legible


@click.command("flush", cls=ControlCommand)
@click.option(
    "--key",
    metavar="KEY",
    help="Exactly this key, in every table, or in one --table; with --map, every key that its search tries.",
)
@click.option(
    "--user",
    metavar="ADDRESS",
    help="Everything that may influence an answer about this user, over all maps and dicts.",
)
@click.option(
    "--domain",
    metavar="DOMAIN",
    help="The domain, its catch-all, its addresses and users; not its parents or subdomains.",
)
@click.option("--table", metavar="TABLE", help="All of a table.")
@click.option("--map", "map_name", metavar="MAP", help="All tables of a map, or of a dict.")
@click.option("--all", "everything", is_flag=True, help="Everything.")
@click.option(
    "--wait",
    metavar="TIME",
    help="With [cluster]: wait for so long, such as 2s, until every other host has done it.",
)
@control_options
def command(
    *,
    key: str | None,
    user: str | None,
    domain: str | None,
    table: str | None,
    map_name: str | None,
    everything: bool,
    wait: str | None,
    config_file: str,
    address: str | None,
) -> None:
    """Let the running daemon forget cached answers, so that the next lookup asks the database.

    Prints how many entries each table dropped. When the command returns, no old answer is left, and
    no query that was on its way brings one back. A user is an address: its entries with any
    extension go too, the catch-all and domain entries that its lookups read, its passwords and its
    user data. Every other host of a fleet is told; --wait names those that have not confirmed it.

    Exit status: 0 done, 64 wrong usage, 65 no such table or map, 75 no daemon answers, or not every host of the fleet
    was told or has confirmed, 77 no permission.

    \b
    Example:
      mailmapd flush --user info@example.com
      mailmapd flush --key example.com --table domain
      mailmapd flush --all
      mailmapd flush --user info@example.com --wait 2s
    """
    texts = {"key": key, "user": user, "domain": domain, "table": table, "map": map_name}
    what: dict[str, str | bool | float] = {
        name: _as_bytes(text) for name, text in texts.items() if text is not None
    }
    if everything:
        what["all"] = True
    if not what:
        raise WrongUsage("say what to forget: --key, --user, --domain, --table, --map or --all")
    if wait is not None:
        what["wait"] = _seconds(wait)
    with connect(config_file, address) as daemon:
        report = daemon.flush(**what)
    dropped = report.dropped
    for name, count in dropped.items():
        if count:
            say(f"{name}: {count}")
    total = sum(dropped.values())
    entries = "1 entry" if total == 1 else f"{total} entries"
    say(f"{entries} dropped" if total else "nothing was cached")
    if report.failure:
        raise NotEverywhere(report.failure)
    if report.unconfirmed:
        raise NotEverywhere(f"not confirmed by {', '.join(report.unconfirmed)}")
    if wait is not None:
        say("confirmed by every host")


class NotEverywhere(click.ClickException):
    """Not every host of the fleet is known to have forgotten."""

    exit_code = os.EX_TEMPFAIL

    def format_message(self) -> str:
        """Return the text for a terminal."""
        return legible(super().format_message())


def _seconds(text: str) -> float:
    try:
        return parse_duration(text)
    except ValueError as error:
        raise WrongUsage(f"--wait {error}") from None


def _as_bytes(text: str) -> str:
    """Return the bytes that were typed, in the form the protocol sends them, whatever the locale decoded them to."""
    return os.fsencode(text).decode("utf-8", "surrogateescape")
