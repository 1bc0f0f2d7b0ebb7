"""A dovecot-sql.conf.ext used by mailmapd gives what Dovecot's own SQL driver gives, for the schemas in the field."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import pytest

from mailmapd.config.loader import load_config
from mailmapd.snippets.dovecot import dovecot_23
from support.daemon import Daemon
from support.dovecot import Dovecot, LookupFailed, write_snippet
from support.mail_schemas import PASSWORD, SCHEMAS, SERVICES, MailSchema
from support.mariadb import MariaDB, private_directory

pytestmark = [pytest.mark.servers, pytest.mark.root]

STATIC = "userdb {\n  driver = static\n  args = uid=5000 gid=5000 home=/srv/static/%u allow_all_users=yes\n}\n"
# Doveadm commands at a time: a refused login waits for half a second in Dovecot, without using the
# processor
WAITING = 16
RELAXED = "auth_username_chars =\nauth_username_format =\nauth_cache_size = 0\n"


@dataclass(frozen=True)
class Pair:
    """One schema served by Dovecot's own driver and by mailmapd."""

    schema: MailSchema
    own: Dovecot
    ours: Dovecot


@pytest.fixture(scope="module")
def hashed() -> str:
    """A SHA512-CRYPT hash of PASSWORD with few rounds."""
    command = ["doveadm", "pw", "-s", "SHA512-CRYPT", "-r", "1000", "-p", PASSWORD]
    return (
        subprocess.run(command, check=True, capture_output=True, text=True)
        .stdout.strip()
        .removeprefix("{SHA512-CRYPT}")
    )


@pytest.fixture(scope="module", params=SCHEMAS, ids=lambda schema: schema.name)
def pair(request: pytest.FixtureRequest, mariadb: MariaDB, hashed: str) -> Iterator[Pair]:
    """Both Dovecots for one schema."""
    schema: MailSchema = request.param
    database = f"schema_{schema.name}"
    mariadb.run_sql(
        f"DROP DATABASE IF EXISTS {database}; CREATE DATABASE {database} CHARACTER SET utf8mb4"
    )
    mariadb.run_sql(schema.sql.replace("HASH", hashed), database=database)
    mariadb.grant(database, "geheim", database)
    with ExitStack() as stack:
        folder, other = (stack.enter_context(private_directory()) for _ in range(2))
        sql = folder / "dovecot-sql.conf.ext"
        sql.write_text(
            f"driver = mysql\nconnect = host={mariadb.socket} dbname={database} user={database} "
            f"password=geheim\n{schema.settings}"
        )
        daemon = stack.enter_context(Daemon(other, _config(other, sql)))
        own = stack.enter_context(Dovecot(folder, RELAXED + _own_sections(schema, sql)))
        snippet = dovecot_23(load_config(daemon.config), str(other))
        write_snippet(snippet)
        ours = stack.enter_context(
            Dovecot(
                other,
                f"{RELAXED}!include {other}/conf.d/10-auth.conf\n{STATIC if schema.static_userdb else ''}",
            )
        )
        yield Pair(schema, own, ours)


def _config(directory: Path, sql: Path) -> str:
    return (
        f'[listen]\ndict = [{{address = "unix:{directory}/dict", mode = '
        f'"0666", peers = ["dovecot"]}}]\n[dict.auth]\ndovecot_sql = "{sql}"\n'
    )


def _own_sections(schema: MailSchema, sql: Path) -> str:
    section = f"{{\n  driver = sql\n  args = {sql}\n}}\n"
    prefetch = "userdb {\n  driver = prefetch\n}\n" if schema.prefetch else ""
    return f"passdb {section}{prefetch}" + (STATIC if schema.static_userdb else f"userdb {section}")


def _answers(dovecot: Dovecot, kind: str, user: str, about: dict[str, str]) -> object:
    """Return what one doveadm command says, in a form that can be compared."""
    if kind == "user":
        try:
            return dovecot.user(user, **about)
        except LookupFailed:
            return "failed"
    done = dovecot.doveadm(
        "auth",
        kind,
        *(word for name, value in about.items() for word in ("-x", f"{name}={value}")),
        user,
        PASSWORD,
    )
    return done.returncode, sorted(done.stdout.splitlines())


def _differences(pair: Pair, kind: str, abouts: list[dict[str, str]]) -> list[str]:
    questions = list(product(pair.schema.users, abouts))
    with ThreadPoolExecutor(WAITING) as pool:
        own = pool.map(lambda question: _answers(pair.own, kind, *question), questions)
        ours = pool.map(lambda question: _answers(pair.ours, kind, *question), questions)
        asked = list(zip(questions, own, ours, strict=True))
    assert len({repr(answer) for _, answer, _ in asked}) > 1, (
        "every answer is the same: the test asks nothing"
    )
    return [
        f"{question}: Dovecot's driver {said}, mailmapd {other}"
        for question, said, other in asked
        if said != other
    ]


def test_logins(pair: Pair) -> None:
    """`doveadm auth test` says the same for every user, existing, disabled or unknown, and every service."""
    assert _differences(pair, "test", [{"service": service} for service in SERVICES]) == []


def test_users(pair: Pair) -> None:
    """`doveadm user` gives the same fields, or the same absence, for every user and service."""
    assert _differences(pair, "user", [{"service": service} for service in SERVICES]) == []


def test_prefetch(pair: Pair) -> None:
    """A whole login gives the same user fields, also where the password query returns them."""
    assert _differences(pair, "login", [{"service": "imap", "rip": "192.0.2.9"}]) == []


def _listing(dovecot: Dovecot, mask: str) -> object:
    try:
        return sorted(dovecot.users(mask))
    except LookupFailed:
        return "failed"


def test_list(pair: Pair) -> None:
    """`doveadm user '*'` lists the same users (with a static userdb: fails alike), and so does a mask."""
    for mask in ("*", "a*", "*@EXAMPLE.com", "?o*"):
        assert _listing(pair.ours, mask) == _listing(pair.own, mask)
    assert _listing(pair.ours, "*") != []
