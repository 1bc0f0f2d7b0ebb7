"""What the daemon says of itself: listeners that could not be opened, databases not reached, names
that do not exist.
"""

from __future__ import annotations

import signal
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from mailmapd.demo import mail_database
from support.daemon import Daemon
from support.process import free_port, wait_until

CONFIG = """
[listen]
socketmap = ["unix:{folder}/postfix"]
{dict}
http = "127.0.0.1:{http}"
[cache]
ttl = "0.2s"
[database.mail]
driver = "sqlite"
path = "{folder}/mail.sqlite"
[table.mailbox]
database = "mail"
query = "SELECT mail_dir FROM email_user WHERE mail_account = '%s'"
[table.passdb]
database = "mail"
dovecot_query = "SELECT mail_account AS user FROM email_user WHERE mail_account = '%u'"
[map.boxes]
tables = ["mailbox"]
search = "exact"
[dict.auth]
passdb = "passdb"
"""
USER = b"user1@example.com"


class Site:
    """A folder with a mail database, and the configurations to try in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.database = folder / "mail.sqlite"
        self.http = free_port()
        mail_database.create(self.database)

    def config(self, dovecot: str = "") -> str:
        """Return a configuration with another line in its section `listen`."""
        return CONFIG.format(folder=self.folder, http=self.http, dict=dovecot)

    def page(self, path: str) -> tuple[int, str]:
        """Return the status and the text of a page, whatever the status."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.http}{path}") as reply:
                return reply.status, reply.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()


@pytest.fixture
def site(short_path: Path) -> Site:
    return Site(short_path)


class Partly(Daemon):
    """A daemon that is up when Postfix's socket answers, whatever becomes of Dovecot's."""

    def addresses(self) -> Iterator[str]:
        """Yield this address, and HTTP's."""
        yield f"unix:{self.directory}/postfix"
        yield self.listeners["http"]


def answers(daemon: Daemon) -> bool:
    with daemon.socketmap() as client:
        return client.ask("boxes", USER).status == "OK"


def test_listener_that_cannot_be_opened_keeps_nobody_else_away(site: Site) -> None:
    """A start with an impossible socket serves the others, says which and why, and opens it when it can."""
    plain = site.folder / "dict"
    plain.write_text("precious")
    with Partly(site.folder, site.config(f'dict = ["unix:{plain}"]')) as daemon:
        assert answers(daemon)
        status, text = site.page("/readyz")
        assert status == 503
        assert "listener dict is not open" in text
        assert "is no socket; move that file away" in text
        assert "listener dict is not open, the others are" in daemon.text()
        assert plain.read_text() == "precious"
        plain.unlink()
        wait_until(lambda: "listener dict is open now" in daemon.text(), "the second attempt")
        assert site.page("/readyz") == (200, "ready\n")
        assert plain.is_socket()


def test_reload_that_asks_for_an_impossible_socket_is_refused(site: Site) -> None:
    """A reload names the socket that cannot be had and changes nothing; a listener that was closed
    before refuses none.
    """
    with Partly(site.folder, site.config()) as daemon:
        daemon.write_config(site.config(f'dict = ["unix:{site.folder}/nowhere/dict"]'))
        daemon.process.send_signal(signal.SIGHUP)
        wait_until(lambda: "reload refused" in daemon.text(), "the refusal")
        assert "create its folder first" in daemon.text()
        assert answers(daemon)
        daemon.stop()
        daemon.start()
        daemon.process.send_signal(signal.SIGHUP)
        wait_until(lambda: "configuration reloaded" in daemon.text(), "the reload")
        assert "listener dict is not open" in site.page("/readyz")[1]
        assert answers(daemon)


def test_no_lookup_socket_is_no_start(site: Site) -> None:
    """Where no socket for lookups can be had, the start ends with 78 and names it, although HTTP could be served."""
    with Partly(site.folder, site.config()) as first:
        other = site.config().replace(f":{site.http}", f":{free_port()}")
        second = Daemon(site.folder, other)
        done = second.command("serve")
        assert done.returncode == 78
        assert "is served by a running process" in done.stderr
        assert answers(first)


def test_database_that_never_answered_is_not_called_up(site: Site) -> None:
    """Before the first answer of its database the daemon is not ready, and the metric says so; then it is, at once."""
    away = site.folder / "away"
    site.database.rename(away)
    with Partly(site.folder, site.config()) as daemon:
        status, text = site.page("/readyz")
        assert status == 503
        assert text.startswith("database mail: not reached yet (")
        up = f'mailmapd_database_up{{database="mail",host="{site.database}"}}'
        assert daemon.metrics()[up] == 0
        away.rename(site.database)
        wait_until(lambda: site.page("/readyz") == (200, "ready\n"), "the first answer")
        assert daemon.metrics()[up] == 1
        assert "database mail answers" in daemon.text()


def test_serving_from_memory_is_ready_and_alarming(site: Site) -> None:
    """While the database is away /readyz stays 200 and says so, and /readyz?databases is 503."""
    with Partly(site.folder, site.config()) as daemon:
        wait_until(lambda: site.page("/readyz?databases") == (200, "ready\n"), "the database")
        assert answers(daemon)
        site.database.rename(site.folder / "away")
        wait_until(
            lambda: answers(daemon) and site.page("/readyz?databases")[0] == 503, "the alarm"
        )
        status, text = site.page("/readyz")
        assert status == 200
        assert text.startswith("ready\ndatabase mail: no host can be reached")
        assert answers(daemon)


def test_misspelt_map_is_everywhere(site: Site) -> None:
    """A map that Postfix asks for and that does not exist is named, with the one that was meant, and counted."""
    control = f'control = "unix:{site.folder}/control"'
    with Partly(site.folder, site.config(control)) as daemon:
        with daemon.socketmap() as client:
            assert client.ask("boxs", USER).status == "PERM"
            assert client.ask("b\xfcx y", USER).status == "PERM"
        line = 'listener socketmap: there is no map "boxs"; did you mean "boxes"?'
        assert line in daemon.text()
        assert f"{line} (1 lookups)" in site.page("/readyz?databases")[1]
        assert site.page("/readyz")[0] == 200
        assert line in " ".join(daemon.command("stats").stdout.split())
        assert daemon.metrics()['mailmapd_unknown_names_total{listener="socketmap"}'] == 2
        assert "\xfc" not in daemon.text()


def test_control_is_on_by_default_and_can_be_off(site: Site) -> None:
    """Where nothing is said, a missing folder for the control socket is no fault; false asks for none."""
    with Partly(site.folder, site.config()) as daemon:
        wait_until(lambda: site.page("/readyz") == (200, "ready\n"), "the database")
        daemon.write_config(site.config("control = false"))
        daemon.process.send_signal(signal.SIGHUP)
        wait_until(lambda: "configuration reloaded" in daemon.text(), "the reload")
        done = daemon.command("stats")
        assert done.returncode == 78
        assert "listen.control is false" in done.stderr
