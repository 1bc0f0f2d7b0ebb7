"""`verify --dovecot-sql`: all users through the old file and through mailmapd, asked of real Dovecots."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from mailmapd.config.loader import parse_config
from mailmapd.plan.dict_plan import plan_dicts
from mailmapd.verify.user_names import names_of_users
from support.daemon import Daemon
from support.mariadb import MariaDB, private_directory

from .conftest import Mail, mail_stack

pytestmark = [pytest.mark.servers, pytest.mark.root]

USERS = (
    "first@verify.example",
    "zoë@verify.example",
    "o'h\"a\\ra@verify.example",
    "no-password@verify.example",
)
LONG = "é" * 2048  # longer than a question to auth-master may be


@pytest.fixture(scope="module")
def mail(mariadb: MariaDB) -> Iterator[Mail]:
    """A stack of its own: every user of the database is compared, and those of other tests are odd."""
    with ExitStack() as stack:
        yield mail_stack(stack, mariadb, "dovecot_verify")


@pytest.fixture(scope="module")
def users(mail: Mail) -> None:
    """Users whose names and fields are not easy."""
    for user in USERS:
        password = None if user.startswith("no-") else "{PLAIN}secret"
        mail.add(user, password, f"/srv/{user}".encode(), b'tab\tand "quotes"')
    mail.add(LONG, "{PLAIN}secret")


@pytest.mark.usefixtures("users")
def test_no_difference(mail: Mail) -> None:
    """Every user is listed, found and described alike, which is exit status 0."""
    file = mail.daemon.directory / "dovecot-sql.conf.ext"
    done = mail.daemon.command("verify", "--dovecot-sql", str(file))
    assert done.stdout, done.stderr
    last = done.stdout.splitlines()[-1]
    assert (done.returncode, " 0 differences" in last) == (0, True), done.stdout + done.stderr
    assert int(last.split()[0]) == len(USERS) + 1
    # Both for the long name, and the login without a password.
    assert "3 questions fail with Dovecot's own SQL" in done.stdout


@pytest.mark.usefixtures("users")
def test_differences(mail: Mail) -> None:
    """A file that gives another home, and another list, is told from what mailmapd answers, user by user."""
    directory = mail.daemon.directory
    text = (directory / "dovecot-sql.conf.ext").read_text()
    text = text.replace("SELECT home,", "SELECT CONCAT(home, '/x') AS home,", 1)
    text = text.replace(
        " AS user FROM mailbox\n", f" AS user FROM mailbox WHERE username <> '{USERS[0]}'\n"
    )
    other = directory / "other-sql.conf.ext"
    other.write_text(text)
    done = mail.daemon.command("verify", "--dovecot-sql", str(other))
    assert done.returncode == 1, done.stdout + done.stderr
    assert f"user {USERS[0]}\n  Dovecot's own SQL: is not listed\n" in done.stdout
    assert f"home=/srv/{USERS[3]}/x" in done.stdout
    assert "secret" not in done.stdout


@pytest.mark.usefixtures("users")
def test_nobody_found_proves_nothing(mail: Mail) -> None:
    """A file that lists nobody proves nothing, and is no success."""
    directory = mail.daemon.directory
    text = (directory / "dovecot-sql.conf.ext").read_text()
    other = directory / "empty-sql.conf.ext"
    other.write_text(text.replace(" FROM mailbox", " FROM mailbox WHERE 1 = 0 -- "))
    done = mail.daemon.command("verify", "--dovecot-sql", str(other))
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Proves nothing, because no user was found." in done.stdout


def test_file_that_dovecot_refuses(mail: Mail) -> None:
    """A file whose queries fail ends with Dovecot's reason, not with 0 differences."""
    directory = mail.daemon.directory
    text = (directory / "dovecot-sql.conf.ext").read_text()
    other = directory / "wrong-sql.conf.ext"
    other.write_text(text.replace("FROM mailbox", "FROM mailbx"))
    done = mail.daemon.command("verify", "--dovecot-sql", str(other))
    assert done.returncode not in (0, 1)
    assert "cannot list its users; its log says: " in done.stderr
    assert "mailbx' doesn't exist" in done.stderr


@contextmanager
def partly_moved(mail: Mail, *left_out: str) -> Iterator[Daemon]:
    """Run a mailmapd whose dict lacks some of the file's queries, as an import leaves out what Dovecot does not use."""
    text = (mail.daemon.directory / "dovecot-sql.conf.ext").read_text()
    kept = [line for line in text.splitlines() if not line.startswith(left_out)]
    with private_directory() as folder:
        (folder / "moved.conf.ext").write_text("\n".join([*kept, ""]))
        listen = f'dict = [{{address = "unix:{folder}/dict", mode = "0666", peers = ["dovecot"]}}]'
        config = f'[listen]\n{listen}\n[dict.auth]\ndovecot_sql = "moved.conf.ext"\n'
        with Daemon(folder, config) as daemon:
            yield daemon


@pytest.mark.usefixtures("users")
@pytest.mark.parametrize("moved", ["password_query", "user_query"])
def test_what_is_not_moved_is_not_compared(mail: Mail, moved: str) -> None:
    """Logins are compared beside a static userdb, users beside another passdb, though no query lists them."""
    file = mail.daemon.directory / "dovecot-sql.conf.ext"
    other = {"password_query", "user_query", "iterate_query"} - {moved}
    with partly_moved(mail, *other) as daemon:
        done = daemon.command("verify", "--dovecot-sql", str(file))
        assert done.returncode == 0, done.stdout + done.stderr
        assert f"{len(USERS) + 1} users, 0 differences" in done.stdout.splitlines()[-1]


def test_names_of_users_whom_no_query_lists(mail: Mail) -> None:
    """The values of a column, and those of two columns of a row, are names of users; other columns are not."""
    mail.database.run_sql(
        "CREATE TABLE account (local varchar(20), Domain varchar(20), note varchar(20));"
        "INSERT INTO account VALUES ('a', 'x.test', 'y.test'), ('b', 'y.test', NULL)",
        database=mail.name,
    )
    text = "SELECT note AS password FROM account WHERE local = '%Ln' AND domain = '%{domain}'"
    both = text.replace(" AND ", " OR note = LOWER('%{user | lower}') AND ")
    assert names(mail, text) == {b"a@x.test", b"b@y.test"}
    assert names(mail, both) == {b"a@x.test", b"b@y.test", b"y.test"}


def names(mail: Mail, query: str) -> set[bytes]:
    """Return the names that rows of a password query are about."""
    config = parse_config(
        f'[listen]\ndict = ["unix:/x"]\n[database.d]\ndriver = "mysql"\n'
        f'hosts = ["unix:{mail.database.socket}"]\nuser = "{mail.name}"\npassword = "geheim"\n'
        f'dbname = "{mail.name}"\n[table.p]\ndatabase = "d"\ndovecot_query = "{query}"\n'
        '[dict.auth]\npassdb = "p"\n',
        "mailmapd.toml",
    )
    table = plan_dicts(config)["auth"].passdb
    assert table is not None
    return set(asyncio.run(names_of_users(config, table)))
