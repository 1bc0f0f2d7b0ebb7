"""Unknown recipients at full speed, a client with endless misses, and keys that the database cannot evaluate.

Nobody else notices.
"""

from __future__ import annotations

import os
import re
import sys
import time
from pathlib import Path

import pytest

from support.daemon import Daemon
from support.mariadb import MariaDB
from support.numbered_mail import ACCOUNT, LISTEN, address, configuration, mailbox
from support.priority import put_ahead
from support.process import ServerProcess, free_port
from support.process_figures import resident_bytes
from support.traffic import PROMPT, Traffic, percentile, statuses

UNKNOWN = int(
    os.environ.get("MAILMAPD_UNKNOWN", "100000")
)  # the long form, scripts/soak, asks a million
PIPELINED = 100_000
HOT = 500
NEGATIVE_BUDGET = UNKNOWN // 10
PLATEAU = 0.3  # the part of the flood after which memory may not grow any more
GROWTH = 1.10
POISON = "zoë😀@example.com".encode()  # cannot be compared with a column of latin1_bin
POISON_SECONDS = 7.0

HTTP = LISTEN + 'http = "127.0.0.1:{http}"\n'
BUDGET = f"""
[cache]
max_negative_entries = {NEGATIVE_BUDGET}
"""
HOSTED = """
[table.domain]
database = "mail"
query = "SELECT 1 FROM mailbox WHERE id = 1 AND '%s' = 'hosted.example'"
[map.domains]
tables = ["domain"]
[map.armoured]
tables = ["mailbox"]
search = "address"
hosted_domains = "domains"
"""
WESTERN = """
[table.western]
database = "mail"
query = "SELECT address FROM western WHERE address = '%s'"
[map.western]
tables = ["western"]
"""

pytestmark = [pytest.mark.alone, pytest.mark.servers]


def serve(folder: Path, server: MariaDB, more: str = "") -> Daemon:
    listen = HTTP.replace("{http}", str(free_port()))
    return Daemon(folder, configuration(folder, [f"unix:{server.socket}"], listen) + more)


def flood(daemon: Daemon, name: str, first: int, last: int, connections: int = 50) -> ServerProcess:
    """Start asking for unknown users."""
    command = [
        sys.executable,
        "-m",
        "support.flood",
        f"{daemon.directory}/socketmap",
        name,
        *map(str, (connections, first, last)),
    ]
    return ServerProcess(
        command,
        daemon.directory / "flood.log",
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
    )


def finish(flooding: ServerProcess) -> dict[str, int]:
    """Wait for a flood's end and return how its questions were answered."""
    assert flooding.wait(1800) == 0, flooding.text()
    answers = {
        status: int(count)
        for status, count in re.findall(r"^(\w+) (\d+)$", flooding.text(), re.MULTILINE)
    }
    flooding.log.unlink()
    return answers


def warm(daemon: Daemon) -> None:
    with daemon.socketmap() as client:
        for user in range(HOT):
            assert client.ask("mailboxes", address(user)) == ("OK", mailbox(user))


def queries(daemon: Daemon) -> float:
    return sum(
        value
        for name, value in daemon.metrics().items()
        if name.startswith("mailmapd_database_queries_total")
    )


@pytest.mark.timeout(3600)
def test_unknown_recipients(server: MariaDB, short_path: Path) -> None:
    """Unknown recipients at full speed.

    Every hot key stays a hit, memory reaches a plateau, no key costs more than one query.
    """
    with serve(short_path, server, BUDGET) as daemon:
        put_ahead(daemon.process.pid)
        warm(daemon)
        before = queries(daemon)
        first = int(UNKNOWN * PLATEAU)
        answers = finish(flood(daemon, "mailboxes", 0, first))
        plateau = resident_bytes(daemon.process.pid)
        began = time.monotonic()
        with Traffic(f"{short_path}/socketmap", kinds=("fresh",), hot=HOT, rate=500.0) as traffic:
            assert finish(flood(daemon, "mailboxes", first, UNKNOWN)) == {
                "NOTFOUND": UNKNOWN - first
            }
        seconds = time.monotonic() - began
        memory = resident_bytes(daemon.process.pid)
        metrics = daemon.metrics()
        asked = queries(daemon) - before
        print(
            f"\n  {UNKNOWN} unknown users at {(UNKNOWN - first) / seconds:.0f}/s: {asked / UNKNOWN:.3f} queries each; "
            f"memory {plateau / 2**20:.1f} then {memory / 2**20:.1f} MiB; {len(traffic.samples)} hot lookups, "
            f"p99 {percentile(traffic.samples, 0.99) * 1e3:.2f} ms"
        )
    assert answers == {"NOTFOUND": first}
    assert set(statuses(traffic.samples)) == {"OK"}
    assert asked <= UNKNOWN
    assert metrics['mailmapd_cache_requests_total{outcome="miss",table="mailbox"}'] <= UNKNOWN + HOT
    assert metrics['mailmapd_cache_requests_total{outcome="hit",table="mailbox"}'] == len(
        traffic.samples
    )
    assert metrics['mailmapd_cache_evictions_total{kind="positive",table="mailbox"}'] == 0
    assert memory < plateau * GROWTH


def test_endless_misses_of_one_client(server: MariaDB, short_path: Path) -> None:
    """A client with nothing but misses, over connections as many as there are to the database,
    holds up nobody's hits.
    """
    with serve(short_path, server) as daemon:
        put_ahead(daemon.process.pid)
        warm(daemon)
        flooding = flood(daemon, "mailboxes", 0, UNKNOWN // 5, connections=16)
        with Traffic(f"{short_path}/socketmap", kinds=("fresh",), hot=HOT) as traffic:
            assert finish(flooding) == {"NOTFOUND": UNKNOWN // 5}
    print(
        f"\n  {len(traffic.samples)} hits beside {UNKNOWN // 5} misses: p99 "
        f"{percentile(traffic.samples, 0.99) * 1e3:.2f} ms"
    )
    assert set(statuses(traffic.samples)) == {"OK"}
    assert percentile(traffic.samples, 0.99) < PROMPT


def test_many_questions_at_once(server: MariaDB, short_path: Path) -> None:
    """A client that sends a hundred thousand questions in one go gets every answer, in order, and holds up nobody."""
    with serve(short_path, server) as daemon:
        put_ahead(daemon.process.pid)
        warm(daemon)
        with Traffic(f"{short_path}/socketmap", kinds=("fresh",), hot=HOT) as traffic:
            began = time.monotonic()
            sender = ServerProcess(
                [sys.executable, "-c", SENDER, f"{short_path}/socketmap"], short_path / "sender.log"
            )
            assert sender.wait(120) == 0, sender.text()
            seconds = time.monotonic() - began
    print(
        f"\n  {PIPELINED} at once in {seconds:.1f} s; others' p99 {percentile(traffic.samples, 0.99) * 1e3:.2f} ms"
    )
    assert set(statuses(traffic.samples)) == {"OK"}
    assert percentile(traffic.samples, 0.99) < PROMPT


SENDER = f"""
import socket, sys, threading
requests, replies = [], []
for number in range({PIPELINED}):
    user = number % {HOT}
    request = b"mailboxes user%d@example.com" % user
    requests.append(b"%d:%b," % (len(request), request))
    reply = b"OK example.com/user%d/" % user
    replies.append(b"%d:%b," % (len(reply), reply))
requests, replies = b"".join(requests), b"".join(replies)
client = socket.socket(socket.AF_UNIX)
client.connect(sys.argv[1])
threading.Thread(target=client.sendall, args=(requests,)).start()
received = bytearray()
while len(received) < len(replies):
    received += client.recv(2**20) or sys.exit("closed")
assert received == replies
"""


def test_domains_that_are_not_hosted(server: MariaDB, short_path: Path) -> None:
    """Addresses in a domain that the map of hosted domains does not list cost one query in all, not one each."""
    with serve(short_path, server, HOSTED) as daemon:
        server.log_queries()
        assert finish(flood(daemon, "armoured", 0, 10_000)) == {"NOTFOUND": 10_000}
        # Beside what is asked to find out whether the log can be followed
        asked = sum("FROM mailbox" in query for query in server.logged_queries(ACCOUNT))
        with daemon.socketmap() as client:
            assert client.ask("armoured", b"user7@hosted.example") == ("OK", mailbox(7))
        server.log_queries(on=False)
    assert asked == 1


def test_poison_among_normal_traffic(server: MariaDB, short_path: Path) -> None:
    """A key that MariaDB cannot compare is a temporary failure, asked again only every few seconds.

    Every other key is answered as ever.
    """
    server.run_sql(
        "CREATE OR REPLACE TABLE mail.western (address VARCHAR(64) CHARACTER SET latin1 COLLATE latin1_bin PRIMARY KEY)"
    )
    server.run_sql(
        "INSERT INTO mail.western SELECT CONCAT('user', seq, '@example.com') FROM mysql.seq_0_to_100"
    )
    seconds = POISON_SECONDS
    with serve(short_path, server, WESTERN) as daemon:
        put_ahead(daemon.process.pid)
        warm(daemon)
        server.log_queries()
        poisoned = 0
        with Traffic(f"{short_path}/socketmap", hot=HOT) as traffic, daemon.socketmap() as client:
            began = time.monotonic()
            while time.monotonic() < began + seconds:
                assert client.ask("western", POISON).status == "TEMP"
                assert client.ask("western", address(poisoned % 100)) == (
                    "OK",
                    address(poisoned % 100),
                )
                poisoned += 1
                time.sleep(0.002)
        sent = sum("zoë" in query for query in server.logged_queries(ACCOUNT))
        server.log_queries(on=False)
        ups = [
            value
            for name, value in daemon.metrics().items()
            if name.startswith("mailmapd_database_up")
        ]
        log = daemon.text()
    print(
        f"\n  {poisoned} lookups of the poisonous key, {sent} of them reached the database; "
        f"{len(traffic.samples)} others"
    )
    assert set(statuses(traffic.samples)) == {"OK"}
    assert 1 <= sent <= seconds / 5 + 1
    assert ups == [1.0]
    assert "host is down" not in log
