"""A fleet of real daemons: who has confirmed, what each says of itself, and what a panel may send."""

from __future__ import annotations

import json
import re
import shlex
import signal
import stat
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from mailmapd.control.client import ControlClient
from support.daemon import Daemon
from support.fleet import TABLES, configuration, fill
from support.guide import blocks, page
from support.mariadb import MariaDB, private_directory
from support.process import free_port, wait_until
from support.process_figures import peak_bytes
from support.valkey import Valkey

pytestmark = [pytest.mark.servers, pytest.mark.root]

NAMES = ("mx1", "mx2", "mx3")
TOKEN = "a token that nobody guesses"
UPDATE = "UPDATE t.alias SET goto = %s WHERE address = 'a@example.com'"

# The two lines of the page about a panel on the same host.
[WEBHOOK] = [text for kind, text in blocks(page("fleet")) if "webhook =" in text]
[CURL] = [text for kind, text in blocks(page("fleet")) if "--unix-socket" in text]
PLACE = "/run/mailmapd/webhook"
MIB = 1024 * 1024
WWW_DATA = 33
NOBODY = 65534
CANNOT_CONNECT = 7  # curl(1)


class Fleet:
    """Three daemons, of which the first follows the database, and their server.

    The first one's webhook is a UNIX socket, as the page shows it, the others' are ports.
    """

    def __init__(self, database: MariaDB, valkey: Valkey, folder: Path, stack: ExitStack) -> None:
        self.database = database
        self.valkey = valkey
        self.daemons = {
            name: stack.enter_context(self._daemon(name, folder / name)) for name in NAMES
        }
        wait_until(lambda: all(self.watched(name) for name in NAMES[1:]), "nothing is watched")

    def _daemon(self, name: str, folder: Path) -> Daemon:
        folder.mkdir()
        (folder / "token").write_text(TOKEN + "\n")
        (folder / "secret").write_text("follow it")
        follow = (
            'follow = "yes"\nuser = "replica"\npassword_file = "secret"'
            if name == "mx1"
            else 'follow = "no"'
        )
        cluster = (
            f'[database.mail.changes]\n{follow}\n[cluster]\nurl = "{self.valkey.url}"\n'
            f'host = "{name}"\n[state]\ndirectory = "state"\n'
        )
        (folder / "state").mkdir()
        text = configuration(folder, f'"unix:{self.database.socket}"', TABLES, cluster)
        listen = f'[listen]\nhttp = "127.0.0.1:{free_port()}"\n'
        if name == "mx1":
            listen += WEBHOOK.removeprefix("[listen]\n").replace(PLACE, f"{folder}/webhook")
        else:
            listen += f'webhook = "127.0.0.1:{free_port()}"\nwebhook_token_file = "token"\n'
        return Daemon(folder, text.replace("[listen]\n", listen))

    def watched(self, name: str) -> bool:
        """Tell whether a daemon keeps its tables for long because of the others."""
        watched: dict[str, list[str]] = self.daemons[name].stats()["cluster"]["watched"]
        return len(watched.get("mail", ())) == len(TABLES)

    def ask(self, name: str) -> bytes:
        """Return what a daemon answers."""
        with self.daemons[name].socketmap() as client:
            return client.ask("alias", b"a@example.com").value

    def holds(self, name: str) -> bool:
        """Tell whether a daemon remembers the answer."""
        with ControlClient(str(self.daemons[name].directory / "c")) as client:
            return client.look("alias", b"a@example.com").age != "nothing"

    def flushed(self, name: str) -> dict[str, str]:
        """Return what a daemon says of each host and the last flush."""
        shown = self.daemons[name].command("stats", "--cluster").stdout
        rows = re.findall(r"^(mx\d) .*?(done|later|NOT YET|-) +\S+ \S+ ago$", shown, re.MULTILINE)
        return dict(rows)

    def paste(self, *, user: int, group: int) -> tuple[int, int]:
        """Have an account send the page's command for a panel; return curl's status and that of HTTP, 0 without one."""
        command = shlex.split(CURL.replace(PLACE, f"{self.daemons['mx1'].directory}/webhook"))
        command = [word.replace("info@example.com", "a@example.com") for word in command]
        account = [f"--reuid={user}", f"--regid={group}", "--clear-groups"]
        done = subprocess.run(
            ["setpriv", *account, *command, "-s", "-o", "/dev/null", "-w", "%{http_code}"],
            stdout=subprocess.PIPE,
            text=True,
            cwd="/",
            timeout=60,
            check=False,
        )
        return done.returncode, int(done.stdout)

    def post(self, name: str, body: object, **headers: str) -> tuple[int, dict[str, object]]:
        """Send what a panel sends; return the status and the reply."""
        url = f"http://{self.daemons[name].listeners['webhook']}/flush"
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {TOKEN}"} | headers
        request = urllib.request.Request(url, data, headers)
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                return response.status, json.loads(response.read())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.loads(error.read())


@pytest.fixture(scope="module")
def fleet(mariadb: MariaDB) -> Iterator[Fleet]:
    fill(mariadb)
    with ExitStack() as stack:
        folder = stack.enter_context(private_directory())
        valkey = stack.enter_context(Valkey(folder / "valkey"))
        yield Fleet(mariadb, valkey, folder, stack)


def test_webhook(fleet: Fleet) -> None:
    """A panel's request is a flush of the whole fleet; without the token, or with anything else, it is none."""
    for name in NAMES:
        fleet.ask(name)
    status, reply = fleet.post("mx2", {"user": "a@example.com", "wait": 5})
    assert (status, reply["unconfirmed"], reply["failure"]) == (200, [], "")
    assert fleet.post("mx2", {"user": "a@example.com"}, Authorization="Bearer x")[0] == 401
    assert fleet.post("mx2", {"user": "a@example.com"}, Authorization="")[0] == 401
    kind = {"Content-Type": "text/plain"}
    assert fleet.post("mx2", {"user": "a@example.com"}, **kind)[0] == 400
    for body in (
        b"",
        b"[]",
        b"{",
        {},
        {"user": "nobody"},
        {"table": "none"},
        {"all": 1},
        {"all": True, "wait": 99},
    ):
        status, reply = fleet.post("mx2", body)
        assert (status, list(reply)) == (400, ["failure"]), body
    fleet.daemons["mx3"].process.send_signal(signal.SIGSTOP)
    status, reply = fleet.post("mx2", {"all": True, "wait": 0.2})
    fleet.daemons["mx3"].process.send_signal(signal.SIGCONT)
    assert (status, reply["unconfirmed"]) == (202, ["mx3"])


def test_webhook_of_a_panel_here(fleet: Fleet) -> None:
    """On a UNIX socket the mode and the peers say who may; his request is a flush of every host, and needs no token."""
    file = (fleet.daemons["mx1"].directory / "webhook").stat()
    assert (stat.S_IMODE(file.st_mode), file.st_gid) == (0o660, WWW_DATA)
    for name in NAMES:
        fleet.ask(name)
    assert fleet.paste(user=NOBODY, group=NOBODY) == (CANNOT_CONNECT, 0)
    hung_up, status = fleet.paste(user=NOBODY, group=WWW_DATA)
    assert (hung_up > 0, status) == (True, 0)
    assert all(fleet.holds(name) for name in NAMES)
    assert fleet.paste(user=WWW_DATA, group=WWW_DATA) == (0, 200)
    assert not any(fleet.holds(name) for name in NAMES)


def test_endless_messages(fleet: Fleet) -> None:
    """What a stranger writes is passed over beyond what a message can have: memory stays, and all of it is doubted."""
    host = fleet.daemons["mx3"]
    before, gaps = peak_bytes(host.process.pid), host.metrics()["mailmapd_cluster_gaps_total"]
    fields = [text for number in range(100_000) for text in (f"f{number}", "x")]
    many = (
        [("m", "x" * (8 * MIB)) for _ in range(8)] + [fields] * 2 + [("m", "x" * (MIB // 5))] * 150
    )

    def unknown() -> float:
        unknown: int = host.stats()["cluster"]["messages"]["unknown"]
        return unknown

    host.process.send_signal(signal.SIGSTOP)
    for message in many:
        fleet.valkey.run("XADD", "mailmapd", "*", *message)
    host.process.send_signal(signal.SIGCONT)
    wait_until(lambda: unknown() == len(many), "they are not passed over")
    assert peak_bytes(host.process.pid) - before < 24 * MIB
    assert host.metrics()["mailmapd_cluster_gaps_total"] == gaps
    wait_until(lambda: fleet.watched("mx3"), "nothing is watched")
    # The last of them are doubted some seconds after the first, and nothing behind them is confirmed before
    request = {"user": "a@example.com", "wait": 5}
    wait_until(lambda: fleet.post("mx2", request)[0] == 200, "no flush is confirmed")
    fleet.valkey.run("XTRIM", "mailmapd", "MAXLEN", "0")  # of which everything was read


def test_fleet_as_it_is(fleet: Fleet) -> None:
    """`stats --cluster` shows each host, and which one asks something else."""
    odd = fleet.daemons["mx3"]
    text = odd.config.read_text()
    odd.write_config(text.replace("WHERE domain = '%d'", "WHERE domain = '%d' AND goto <> ''"))
    assert odd.command("reload").returncode == 0
    wait_until(lambda: fleet.watched("mx2"), "mx2 is not watched")

    def differing() -> list[str]:
        done = fleet.daemons["mx2"].command("stats", "--cluster")
        return [line.split()[0] for line in done.stdout.splitlines() if "DIFFERS" in line]

    wait_until(lambda: differing() == ["mx3"], "it does not stand out")

    def members() -> dict[str, dict[str, object]]:
        done = fleet.daemons["mx2"].command("stats", "--cluster", "--format", "json")
        found: dict[str, dict[str, object]] = json.loads(done.stdout)
        return found

    counts = {"mx1": 0, "mx2": len(TABLES), "mx3": len(TABLES) - 1}
    wait_until(
        lambda: {name: member["watched"] for name, member in members().items()} == counts,
        "other tables are watched",
    )
    assert {name: member["follows"] for name, member in members().items()} == {
        "mx1": ["mail"],
        "mx2": [],
        "mx3": [],
    }
    assert re.search(r"^mx2 .*mx1", fleet.daemons["mx2"].command("stats").stdout, re.MULTILINE)
    odd.write_config(text)
    assert odd.command("reload").returncode == 0
    wait_until(lambda: fleet.watched("mx3"), "mx3 is not watched again")


def test_confirmed(fleet: Fleet) -> None:
    """A flush is confirmed by every host, or those that have not done it are named; who comes back does it then."""
    for name in NAMES:
        assert fleet.ask(name) == b"one"
    third = fleet.daemons["mx3"]
    done = fleet.daemons["mx2"].command("flush", "--user", "a@example.com", "--wait", "5s")
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "confirmed by every host")
    for name in NAMES:
        assert not fleet.holds(name)
    fleet.ask("mx3")
    third.process.send_signal(signal.SIGSTOP)
    began = time.monotonic()
    done = fleet.daemons["mx2"].command("flush", "--user", "a@example.com", "--wait", "300ms")
    assert done.returncode == 75
    assert "not confirmed by mx3" in done.stderr
    assert time.monotonic() - began < 5
    flushed = {"mx1": "done", "mx2": "done", "mx3": "NOT YET"}
    wait_until(lambda: fleet.flushed("mx2") == flushed, "who has done it is not told apart")
    page = fleet.daemons["mx2"].page("/")
    assert "The last flush is not confirmed by mx3." in page
    assert page.count("NOT YET") == 1
    shown = json.loads(fleet.daemons["mx2"].page("/status.json"))["fleet"]
    assert {name: member["confirmed"] for name, member in shown.items()} == {
        "mx1": True,
        "mx2": True,
        "mx3": False,
    }
    third.process.send_signal(signal.SIGCONT)
    done = fleet.daemons["mx1"].command("flush", "--domain", "example.com", "--wait", "5s")
    assert done.returncode == 0, done.stderr
    wait_until(lambda: set(fleet.flushed("mx2").values()) == {"done"}, "it is not done")

    fleet.ask("mx3")
    assert third.stop() == 0
    done = fleet.daemons["mx1"].command("flush", "--all", "--wait", "5s")
    assert done.returncode == 0, "a host that was stopped is not waited for"
    fleet.database.run_sql(UPDATE, "while it was away")
    third.start()
    wait_until(lambda: fleet.watched("mx3"), "mx3 has not come back")
    assert fleet.ask("mx3") == b"while it was away"

    fleet.valkey.kill()
    done = fleet.daemons["mx2"].command("flush", "--user", "a@example.com", "--wait", "5s")
    assert done.returncode == 75
    assert "the other hosts were not told" in done.stderr
    assert "nothing was cached" in done.stdout or "dropped" in done.stdout
    assert "cluster: unix:" in fleet.daemons["mx2"].command("stats").stdout
    page = fleet.daemons["mx2"].page("/")
    assert "Not joined: what was known counts from" in page
    assert "NOT YET" not in page
