"""Where and how a .cf file says to connect.

Postfix's own mysql: table and the daemon's reach the same server, or neither does.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from support.daemon import Daemon
from support.mariadb import MariaDB, private_directory
from support.postfix import Postfix

pytestmark = pytest.mark.servers

FORMS = {
    "port": "hosts = 127.0.0.1:{port}",
    "inet": "hosts = inet:127.0.0.1:{port}",
    "unix": "hosts = unix:{socket}",
    "socket_with_port": "hosts = unix:{socket}:3306",
    "second": "hosts = 127.0.0.1:1,127.0.0.1:{port}",
    "socket_second": "hosts = 127.0.0.1:1 unix:{socket}",
    "no_verify": "hosts = 127.0.0.1:{port}\ntls_verify_cert = no",
    "verify": "hosts = 127.0.0.1:{port}\ntls_verify_cert = yes",
    "option_no_verify": "hosts = 127.0.0.1:{port}\noption_file = {folder}/no-verify.cnf",
    "option_verify": "hosts = 127.0.0.1:{port}\noption_file = {folder}/verify.cnf",
    "closed_port": "hosts = 127.0.0.1:1",
    "no_such_socket": "hosts = unix:{folder}/none",
    "no_domains": "hosts = unix:{socket}\ndomain = ,",
    "no_limit": "hosts = unix:{socket}\nexpansion_limit = -1",
}
KEY = b"user@example.com"


def test_the_same_hosts_answer(tmp_path: Path) -> None:
    """Every form of host, and encryption asked for and not, gives what Postfix's own table gives
    with a server that has no TLS.
    """
    for name, value in (("no-verify", "0"), ("verify", "1")):
        (tmp_path / f"{name}.cnf").write_text(f"[client]\nssl-verify-server-cert={value}\n")
    with (
        private_directory() as data,
        private_directory() as home,
        private_directory() as instance,
        MariaDB(data, tcp=True) as server,
    ):
        server.run_sql("CREATE DATABASE hosts")
        server.grant("reader", "secret", "hosts")
        lines = [f'[listen]\nsocketmap = ["unix:{home}/socketmap"]\n']
        for name, form in FORMS.items():
            where = form.format(port=server.port, socket=server.socket, folder=tmp_path)
            (home / f"{name}.cf").write_text(
                f"{where}\nuser = reader\npassword = secret\ndbname = hosts\nquery = SELECT '%s'\n"
            )
            lines.append(
                f'[table.{name}]\npostfix_cf = "{name}.cf"\n[map.{name}]\ntables = ["{name}"]\nsearch = "exact"\n'
            )
        with Daemon(home, "".join(lines)) as daemon, daemon.socketmap() as client:
            postfix = Postfix(instance, {})
            runs = {name: postfix.postmap(f"mysql:{home}/{name}.cf", [KEY]) for name in FORMS}
            theirs = {
                name: "TEMP" if run.failed else "OK" if run.found else "NOTFOUND"
                for name, run in runs.items()
            }
            ours = {name: client.ask(name, KEY).status for name in FORMS}
    assert ours == theirs
    assert {"OK", "TEMP", "NOTFOUND"} == set(theirs.values())
