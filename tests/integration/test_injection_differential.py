"""Hostile keys against Postfix's own mysql: maps, where quoting goes wrong most easily: no difference, no injection.

In gbk, big5 and sjis a backslash may be the second half of a character, so that whoever quotes byte
by byte closes the string himself: the euro sign's last byte in UTF-8, AC, and the backslash that
follows are one character of gbk. With NO_BACKSLASH_ESCAPES a backslash protects nothing, and with
ANSI_QUOTES a double quote is no string.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from support.daemon import Daemon
from support.mariadb import MariaDB, private_directory
from support.postfix import Postfix

SEED = int(os.environ.get("MAILMAPD_TEST_SEED") or random.SystemRandom().randrange(10**9))
KEYS = int(os.environ.get("MAILMAPD_HOSTILE_KEYS", "60"))  # per table
PARALLEL = 4
CHARSETS = ("gbk", "big5", "sjis", "utf8mb4")
MODES = ("", "ANSI_QUOTES", "NO_BACKSLASH_ESCAPES", "ANSI_QUOTES,NO_BACKSLASH_ESCAPES")
TEMPLATES = (
    "SELECT HEX('%s'), LENGTH('%s')",
    "SELECT secret FROM box WHERE name = '%s'",
    "SELECT secret FROM box WHERE name = '%u' AND '%d' <> ''",
    "SELECT name FROM box WHERE name LIKE '%%%u%%' OR name = '%d'",
    "SELECT '%s' UNION ALL SELECT '%u' UNION ALL SELECT '%d'",
)
DOUBLE_QUOTED = 'SELECT secret FROM box WHERE name = "%s" OR HEX("%u") = HEX("%d")'
ENDS = (
    "",
    "\\",
    "'",
    '"',
    "\\'",
    '\\"',
    "''",
    "\\\\'",
    "\\\\",
    "`",
    "%s",
    "\x1a",
    "\t",
    "€\\",
    "€'",
    "表\\",
    "ソ'",
    "許\\'",
    "功'",
    "é\\",
    "¿'",
    "😀\\'",
)
INSIDE = (
    "' OR '1'='1",
    "' OR 1=1 -- ",
    '" OR 1=1 # ',
    "'; DROP TABLE box; -- ",
    "') UNION SELECT secret FROM box -- ",
    "\\' OR 1=1 -- ",
    "/*",
    "x",
)
FIRST = ("", "bob", "zoë", "€", "表", "ソ", "許", "功", "¿", "\\", "'")

pytestmark = [pytest.mark.servers]


def hostile_keys(rng: random.Random, count: int) -> list[bytes]:
    """Return keys made of what opens, closes and splits strings and characters."""

    def part() -> str:
        return rng.choice(FIRST) + rng.choice(ENDS) + rng.choice(INSIDE) + rng.choice(ENDS)

    return [
        (part() + rng.choice(["", "@", "@example.com", "@" + part()])).encode()
        for _ in range(count)
    ]


def differences(postfix: Postfix, maps: tuple[str, str], keys: list[bytes]) -> Iterator[str]:
    """Yield what the two maps answer differently; after an error postmap says no more, so then ask by halves."""
    theirs, ours = (postfix.postmap(table, keys) for table in maps)
    if not theirs.failed and not ours.failed and theirs.found == ours.found:
        return
    if len(keys) > 1:
        yield from differences(postfix, maps, keys[: len(keys) // 2])
        yield from differences(postfix, maps, keys[len(keys) // 2 :])
    elif not (theirs.failed and ours.failed):
        yield (
            f"{maps[0]}: key {keys[0]!r}\n  Postfix: {theirs.found!r} {theirs.errors}\n  "
            f"mailmapd: {ours.found!r} {ours.errors}"
        )


def write_tables(home: Path, server: MariaDB, mode: str) -> list[str]:
    """Write a .cf file for each template and character set; return their names."""
    templates = TEMPLATES if mode else (*TEMPLATES, DOUBLE_QUOTED)
    names = []
    for charset in CHARSETS:
        options = home / f"{charset}.cnf"
        options.write_text(f"[client]\ndefault-character-set = {charset}\n")
        for number, template in enumerate(templates):
            name = f"{charset}{number}"
            login = f"hosts = unix:{server.socket}\nuser = prey\npassword = prey\ndbname = prey\n"
            (home / f"{name}.cf").write_text(
                f"{login}option_file = {options}\ncharset = {charset}\nquery = {template}\n"
            )
            names.append(name)
    return names


def configuration(home: Path, names: list[str]) -> str:
    lines = [f'[listen]\nsocketmap = ["unix:{home}/socketmap"]\n']
    lines += [
        f'[table.{name}]\npostfix_cf = "{name}.cf"\n[map.{name}]\ntables = ["{name}"]\n'
        for name in names
    ]
    return "".join(lines)


@pytest.fixture(scope="module")
def prey() -> Iterator[MariaDB]:
    """A server with a table whose secrets no key may reveal."""
    with private_directory() as directory, MariaDB(directory) as server:
        server.run_sql("CREATE DATABASE prey")
        server.run_sql(
            "CREATE TABLE prey.box (name VARCHAR(64) COLLATE utf8mb4_bin, secret VARCHAR(64))"
        )
        server.run_sql(
            "INSERT INTO prey.box VALUES ('bob', 'secret of bob'), ('zoë', 'secret of zoë'), ('x', 'secret of x')"
        )
        server.grant("prey", "prey", "prey")
        yield server


@pytest.mark.parametrize("mode", MODES)
def test_hostile_keys(prey: MariaDB, mode: str) -> None:
    """Every hostile key gets the answer of Postfix's own mysql: map, in each character set.

    None is ever a syntax error.
    """
    prey.run_sql("SET GLOBAL sql_mode = %s", mode)
    with private_directory() as home, private_directory() as instance:
        names = write_tables(home, prey, mode)
        with (
            Daemon(home, configuration(home, names)) as daemon,
            ThreadPoolExecutor(PARALLEL) as threads,
        ):
            postfix = Postfix(instance, {})
            rng = random.Random(SEED + MODES.index(mode))

            def compare(name: str, keys: list[bytes]) -> list[str]:
                return list(
                    differences(
                        postfix,
                        (f"mysql:{home}/{name}.cf", f"socketmap:unix:{home}/socketmap:{name}"),
                        keys,
                    )
                )[:3]

            found = [
                answer
                for result in threads.map(compare, names, [hostile_keys(rng, KEYS) for _ in names])
                for answer in result
            ]
            log = daemon.text()
    assert not found, f"MAILMAPD_TEST_SEED={SEED}, SQL mode {mode!r}\n" + "\n".join(found[:10])
    assert "1064" not in log, log
    assert prey.run_sql("SELECT COUNT(*) FROM prey.box") == [(3,)]
    print(
        f"\n  seed {SEED}, {mode or 'default'}: {KEYS * len(names)} hostile keys alike over {len(names)} tables"
    )


def test_double_quotes_without_backslash_escapes(prey: MariaDB) -> None:
    """A template that puts values between double quotes gives nothing away under
    NO_BACKSLASH_ESCAPES, where Postfix's own maps do.
    """
    prey.run_sql("SET GLOBAL sql_mode = 'NO_BACKSLASH_ESCAPES'")
    with private_directory() as home, private_directory() as instance:
        login = f"hosts = unix:{prey.socket}\nuser = prey\npassword = prey\ndbname = prey\n"
        (home / "box.cf").write_text(login + 'query = SELECT secret FROM box WHERE name = "%s"\n')
        with Daemon(home, configuration(home, ["box"])) as daemon, daemon.socketmap() as client:
            theirs = Postfix(instance, {}).postmap(f"mysql:{home}/box.cf", [b'" OR "1"="1'])
            assert b"secret of bob" in theirs.found
            for key in (b'" OR "1"="1', b'x" OR 1=1 # ', *hostile_keys(random.Random(SEED), 1000)):
                own = key.decode(
                    "utf-8", "replace"
                ).lower()  # by chance a name of the box, whose secret is no loot
                assert client.ask("box", key).status == "NOTFOUND" or own in {"bob", "zoë", "x"}, (
                    key
                )
            assert client.ask("box", b"bob") == ("OK", b"secret of bob")
            assert "1064" not in daemon.text()
