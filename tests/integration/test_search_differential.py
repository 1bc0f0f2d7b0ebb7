"""The same mail sent through two Postfix instances, one on mysql: tables and one on the daemon's maps."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from support import tutorial
from support.daemon import Daemon
from support.mariadb import MariaDB, private_directory
from support.postfix import Postfix
from support.process import wait_until
from support.search_scenarios import ALL_QUERIES, PAIRS, SCENARIOS, Scenario, mangled

pytestmark = [pytest.mark.servers, pytest.mark.root]

DATABASE = "search_differential"
SEED = int(os.environ.get("MAILMAPD_TEST_SEED") or random.SystemRandom().randrange(10**9))
MANGLED = 150


@dataclass(frozen=True)
class Outcome:
    """The outcome of one message: every reply, and the queue's sender and recipients with the reason of their delay."""

    replies: tuple[str, ...]
    sender: str
    recipients: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Servers:
    """The servers that all scenarios share: the .cf files for Postfix, and the daemon that uses the same files."""

    files: dict[str, Path]
    daemon: Daemon


def map_name(scenario: str, name: str) -> str:
    """Return the daemon's name for a scenario's map."""
    return "".join(char if char.isalnum() else "-" for char in f"{scenario} {name}")


def configuration(directory: Path, files: dict[str, Path]) -> str:
    """Return a mailmapd.toml with every map of every scenario."""
    lines = [f'[listen]\nsocketmap = [{{address = "unix:{directory}/socketmap", mode = "0666"}}]\n']
    lines += [f'[table.{name}]\npostfix_cf = "{path}"\n' for name, path in files.items()]
    for title, scenario in SCENARIOS.items():
        for name, spec in scenario.maps.items():
            options = {
                "recipient_delimiter": scenario.delimiter,
                "local_domains": [*scenario.local, "mail.test", "[127.0.0.1]"],
            }
            options |= {
                "owner_request_special": scenario.settings.get("owner_request_special") != "no"
            } | spec.options
            lines.append(
                f"[map.{map_name(title, name)}]\ntables = {json.dumps(spec.tables)}\nsearch = "
                f"{json.dumps(spec.search)}\n"
            )
            lines += [f"{key} = {json.dumps(value)}\n" for key, value in options.items()]
    return "".join(lines)


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    """MariaDB with the tutorial's rows and the small maps, .cf files for every query, and the daemon."""
    with private_directory() as data, private_directory() as home, MariaDB(data) as server:
        tutorial.create(server, DATABASE)
        server.run_sql(
            "CREATE TABLE pair (map varchar(32), k varchar(128), v varchar(255), PRIMARY KEY (map, k))",
            database=DATABASE,
        )
        connection = server.connect(DATABASE)
        with connection, connection.cursor() as cursor:
            cursor.executemany("INSERT INTO pair VALUES (%s, %s, %s)", PAIRS)
        files = tutorial.write_cf(server, home, DATABASE, ALL_QUERIES)
        with Daemon(home, configuration(home, files)) as daemon:
            yield Servers(files, daemon)


def instance(directory: Path, scenario: Scenario, maps: dict[str, str]) -> Postfix:
    """Return a Postfix that is not started yet, with the scenario's maps in place."""
    settings = {
        "recipient_delimiter": scenario.delimiter,
        "mydestination": ", ".join(scenario.local),
    } | scenario.settings
    if not scenario.held:
        settings |= {
            "header_checks": "",
            "default_transport": settings.get("default_transport", "retry:4.3.0 default"),
        }
    return Postfix(directory, {name: value.format_map(maps) for name, value in settings.items()})


def send_all(postfix: Postfix, scenario: Scenario) -> dict[tuple[str, str], Outcome]:
    """Send one message per sender and recipient, and return what became of each."""
    replies: dict[tuple[str, str], list[str]] = {}
    queue_ids: dict[tuple[str, str], str] = {}
    with postfix.smtp() as session:
        for sender in scenario.senders:
            for recipient in scenario.recipients:
                replies[sender, recipient] = [
                    session.mail(sender, utf8=not recipient.isascii()),
                    session.rcpt(recipient),
                ]
                if replies[sender, recipient][1].startswith("250"):
                    answer, accepted, queue_id = session.data().partition(" queued as ")
                    replies[sender, recipient].append(answer)
                    if accepted:
                        queue_ids[sender, recipient] = queue_id
                else:
                    session.reset()
    if not scenario.held:
        wait_until(
            lambda: all(reason for message in postfix.queue() for _, reason in message.recipients),
            "every message deferred",
        )
    queued = {message.identity: message for message in postfix.queue()}
    return {
        pair: Outcome(
            tuple(replies[pair]),
            queued[queue_ids[pair]].sender if pair in queue_ids else "",
            tuple(sorted(queued[queue_ids[pair]].recipients)) if pair in queue_ids else (),
        )
        for pair in replies
    }


def compare(title: str, scenario: Scenario, servers: Servers) -> None:
    """Send everything through both instances and fail with what differs."""
    theirs = {
        name: ", ".join(f"mysql:{servers.files[table]}" for table in spec.tables)
        for name, spec in scenario.maps.items()
    }
    ours = {
        name: f"socketmap:unix:{servers.daemon.directory}/socketmap:{map_name(title, name)}"
        for name in scenario.maps
    }
    outcomes = []
    for maps in (theirs, ours):
        with private_directory() as directory, instance(directory, scenario, maps) as postfix:
            outcomes.append(send_all(postfix, scenario))
    different = [
        f"from <{sender}> to <{recipient}>\n   mysql: {expected}\n   mailmapd: {outcomes[1][sender, recipient]}"
        for (sender, recipient), expected in outcomes[0].items()
        if outcomes[1][sender, recipient] != expected
    ]
    accepted = sum(bool(outcome.recipients) for outcome in outcomes[0].values())
    print(f"{title}: {len(outcomes[0])} messages, {accepted} accepted")
    assert not different, (
        f"{len(different)} of {len(outcomes[0])} messages differ\n"
        + "\n".join(different[:20])
        + servers.daemon.text()[-2000:]
    )
    assert "Traceback" not in servers.daemon.text()


@pytest.mark.parametrize("title", SCENARIOS)
def test_postfix_treats_mail_the_same(title: str, servers: Servers) -> None:
    """Every message gets the same replies and the same resulting sender, recipients and routes as with mysql.

    Tables.
    """
    compare(title, SCENARIOS[title], servers)


@pytest.mark.parametrize(
    "title",
    [
        "delimiters -+. and no special owners",
        "catch-all in the first table",
        "canonical",
        "local domain",
    ],
)
def test_mangled_recipients_are_treated_the_same(title: str, servers: Servers) -> None:
    """Recipients with random characters put in, taken out and changed in case get the same replies and results, too."""
    print(f"MAILMAPD_TEST_SEED={SEED}")
    recipients = tuple(mangled(random.Random(f"{SEED} {title}"), MANGLED))
    compare(
        title,
        replace(SCENARIOS[title], recipients=recipients, senders=("sender@client.test",)),
        servers,
    )


def test_local_submissions_end_with_the_same_recipients(servers: Servers) -> None:
    """Addresses without a domain, given to sendmail(1), are looked up and rewritten the same."""
    recipients = [
        "root",
        "root+x",
        "helpdesk",
        "alice",
        "helpdesk@local.test",
        "nobody+y",
        "team+z@example.com",
        '"a b"@example.com',
        "move+x@example.com",
    ]
    title, results = "local domain", []
    scenario = SCENARIOS[title]
    for kind in ("mysql", "socketmap"):
        maps = {
            name: f"mysql:{servers.files[spec.tables[0]]}"
            if kind == "mysql"
            else f"socketmap:unix:{servers.daemon.directory}/socketmap:{map_name(title, name)}"
            for name, spec in scenario.maps.items()
        }
        with private_directory() as directory, instance(directory, scenario, maps) as postfix:
            for recipient in recipients:
                postfix.sendmail("sender", [recipient])
            results.append(
                sorted(
                    message.recipients for message in postfix.queue() if message.queue != "maildrop"
                )
            )
    assert len(results[0]) == len(recipients)
    assert results[1] == results[0]
