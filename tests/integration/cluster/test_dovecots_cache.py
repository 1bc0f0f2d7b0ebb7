"""Dovecot's own auth cache forgets with mailmapd: a changed password counts at once, though it keeps for an hour."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from mailmapd.config.loader import load_config
from mailmapd.snippets.dovecot import dovecot_23, dovecot_24
from support.daemon import Daemon
from support.debian13 import Debian13
from support.dovecot import Dovecot, write_snippet
from support.mariadb import MariaDB, private_directory
from support.process import free_port, listens, wait_until
from support.shipped import shipped

pytestmark = [
    pytest.mark.servers,
    pytest.mark.root,
    pytest.mark.timeout(1800),
]  # the first test may have to download a system

Login = Callable[[str, str], bool]

USER = "info@example.com"
OTHER = "other@example.com"
SETTINGS_24 = """\
dovecot_config_version = 2.4.1
dovecot_storage_version = 2.4.1
base_dir = /run/dovecot-cache
log_path = /var/log/dovecot-cache.log
protocols =
ssl = no
auth_allow_cleartext = yes
auth_failure_delay = 0
first_valid_uid = 0
"""


class Stack:
    """A database that is followed, a mailmapd, and what asks a Dovecot for a login."""

    def __init__(self, database: MariaDB, daemon: Daemon, login: Login) -> None:
        self.database = database
        self.daemon = daemon
        self.login = login

    def change(self, password: str) -> None:
        """Change the password of which somebody has forgotten to tell anybody."""
        sql = "UPDATE t.users SET hash = %s WHERE name = %s"
        self.database.run_sql(sql, "{PLAIN}" + password, USER)

    def asked(self) -> float:
        """Return how often mailmapd was asked."""
        metrics = self.daemon.metrics()
        return sum(
            value for name, value in metrics.items() if name.startswith("mailmapd_lookups_total")
        )

    def flushes(self) -> float:
        """Return how often Dovecot was told to forget."""
        return self.daemon.metrics()["mailmapd_auth_cache_flushes_total"]


def make_daemon(
    stack: ExitStack, database: MariaDB, listen: str, master: Path, follow: str = "yes"
) -> Daemon:
    """Start a mailmapd that serves logins."""
    database.run_sql(
        f"INSERT INTO t.users VALUES ('{USER}', '{{PLAIN}}old'), ('{OTHER}', '{{PLAIN}}same')"
    )
    folder = stack.enter_context(private_directory())
    (folder / "secret").write_text("follow it")
    account = 'user = "replica"\npassword_file = "secret"\n' if follow == "yes" else ""
    return stack.enter_context(
        Daemon(
            folder,
            f'[listen]\nhttp = "127.0.0.1:{free_port()}"\n{listen}\n[cache]\nttl = "2s"\njitter = 0\n'
            f'[database.mail]\ndriver = "mysql"\nhosts = ["unix:{database.socket}"]\nuser = "mail"\n'
            f'password = "p"\ndbname = "t"\n[database.mail.changes]\nfollow = "{follow}"\n{account}'
            '[table.passwords]\ndatabase = "mail"\n'
            "dovecot_query = \"SELECT hash AS password FROM users WHERE name = '%Lu'\"\n"
            '[dict.auth]\npassdb = "passwords"\n'
            f'[dovecot]\nauth_master = "unix:{master}"\n',
        )
    )


def wait_for_feed(daemon: Daemon) -> None:
    """Wait until the database is followed and Dovecot answers."""

    def ready() -> bool:
        metrics = daemon.metrics()
        followed = [
            value
            for name, value in metrics.items()
            if name.startswith("mailmapd_changes_following")
        ]
        return followed == [1.0] and metrics["mailmapd_auth_cache_up"] == 1

    wait_until(ready, "changes are not followed")


def dovecot_of_23(stack: ExitStack, daemon: Daemon, folder: Path) -> Login:
    """Start Dovecot 2.3 with the settings that `snippets` writes."""
    snippet = dovecot_23(load_config(daemon.config), str(folder))
    write_snippet(snippet.replace("user = mailmapd", "user = root"))
    includes = "".join(
        f"!include {folder}/conf.d/{name}\n" for name in ("10-auth.conf", "10-master.conf")
    )
    dovecot = stack.enter_context(Dovecot(folder, includes))
    return lambda user, password: dovecot.doveadm("auth", "test", user, password).returncode == 0


def dovecot_of_24(stack: ExitStack, daemon: Daemon, system: Debian13, socket: Path) -> Login:
    """Start Dovecot 2.4 with the settings that `snippets` writes."""
    snippet = dovecot_24(load_config(daemon.config), "/etc/dovecot-cache").replace(
        str(socket), "/run/mailmapd-cache"
    )
    lines = [line for line in snippet.splitlines() if not line.startswith("# ----")]
    system.write("etc/dovecot-cache/mailmapd.lua", shipped("dovecot/2.4/mailmapd.lua"))
    text = "\n".join(lines).replace("user = mailmapd", "user = root")
    system.write("etc/dovecot-cache/dovecot.conf", SETTINGS_24 + text)
    config = "/etc/dovecot-cache/dovecot.conf"
    process = system.start(["dovecot", "-F", "-c", config], daemon.directory / "dovecot.out")
    stack.callback(process.stop)
    ready = partial(listens, system.path("run/dovecot-cache/mailmapd-master"))
    process.wait_ready(ready, "Dovecot 2.4")

    def login(user: str, password: str) -> bool:
        command = ["doveadm", "-c", config, "auth", "test", user, password]
        return system.run(*command, check=False).returncode == 0

    return login


@pytest.fixture(params=["2.3", "2.4"])
def stack(request: pytest.FixtureRequest, database: MariaDB) -> Iterator[Stack]:
    """Either Dovecot, with its cache on."""
    with ExitStack() as stack:
        folder = stack.enter_context(private_directory())
        if request.param == "2.3":
            listen = (
                f'dict = [{{address = "unix:{folder}/dict", mode = "0666", peers = ["dovecot"]}}]'
            )
            daemon = make_daemon(stack, database, listen, folder / "run" / "mailmapd-master")
            login = dovecot_of_23(stack, daemon, folder)
        else:
            system = stack.enter_context(Debian13())
            socket = system.path("run/mailmapd-cache")
            accounts = [
                line.split(":") for line in system.path("etc/passwd").read_text().splitlines()
            ]
            peer = next(fields[2] for fields in accounts if fields[0] == "dovecot")
            listen = (
                f'lookup_http = {{address = "unix:{socket}", mode = "0666", peers = ["{peer}"]}}'
            )
            master = system.path("run/dovecot-cache/mailmapd-master")
            daemon = make_daemon(stack, database, listen, master)
            login = dovecot_of_24(stack, daemon, system, socket)
        wait_for_feed(daemon)
        yield Stack(database, daemon, login)


def test_changed_password(stack: Stack) -> None:
    """The old password is refused as soon as it was changed, and nobody else's login asks anew for it."""
    assert stack.login(USER, "old")
    assert stack.login(OTHER, "same")
    asked = stack.asked()
    assert stack.login(USER, "old")
    assert stack.asked() == asked, "Dovecot did not remember, so that this test shows nothing"
    before = stack.flushes()
    stack.change("new")
    wait_until(lambda: stack.flushes() >= before + 1, "Dovecot was not told", 5)
    assert not stack.login(USER, "old")
    assert stack.login(USER, "new")


def test_log_is_lost(database: MariaDB) -> None:
    """While nobody hears of changes, Dovecot remembers for no longer than mailmapd."""
    with ExitStack() as stack:
        folder = stack.enter_context(private_directory())
        listen = f'dict = [{{address = "unix:{folder}/dict", mode = "0666", peers = ["dovecot"]}}]'
        master = folder / "run" / "mailmapd-master"
        daemon = make_daemon(stack, database, listen, master, follow="no")
        login = dovecot_of_23(stack, daemon, folder)
        wait_until(lambda: daemon.metrics()["mailmapd_auth_cache_up"] == 1, "Dovecot is not told")
        assert login(USER, "old")
        database.run_sql("UPDATE t.users SET hash = '{PLAIN}new' WHERE name = %s", USER)
        began = time.monotonic()
        wait_until(lambda: not login(USER, "old"), "the old password goes on", 10)
        assert time.monotonic() - began < 8
