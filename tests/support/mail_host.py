"""A whole mail host made of the files in configs/.

MariaDB and mailmapd here, Postfix and Dovecot here or in a Debian 13 system.
"""

from __future__ import annotations

import os
import smtplib
import socket
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from support.daemon import Daemon
from support.debian13 import Debian13
from support.dovecot import Dovecot
from support.mail_client import MailClient, make_certificate
from support.mariadb import MariaDB, private_directory
from support.postfix import Postfix
from support.process import free_port, wait_until
from support.shipped import settings, shipped, uncommented
from support.smtp import SmtpSession

DATABASE_PASSWORD = "database secret"
MAIL_ACCOUNT = "5000"  # a number, so that no account has to be made
DICT_LINES = (
    "[dict.auth]",
    "passdb = ",
    "userdb = ",
    "iterate = ",
    "[table.passdb]",
    "[table.userdb]",
    "[table.users]",
)


def fill(database: MariaDB, account: str, passwords: Mapping[str, str]) -> None:
    """Create the shipped schema with one mailbox per password, the alias builder@ for bob@, and mailmapd's account."""
    database.run_sql(shipped("schemas/virtual_email.sql"))
    connection = database.connect("virtual_email")
    with connection, connection.cursor() as cursor:
        for address, password in passwords.items():
            user, _, domain = address.partition("@")
            cursor.execute(
                "INSERT INTO email_user VALUES (%s, %s, %s, %s, %s)",
                (user, address, password, domain, f"{domain}/{user}/"),
            )
        cursor.execute("INSERT INTO email_aliase VALUES ('builder@example.com', 'bob@example.com')")
    database.grant(account, DATABASE_PASSWORD, "virtual_email")


def sample_config(listen: str, moved: Mapping[str, str]) -> str:
    """Return the shipped mailmapd.toml with its dict switched on and the given line of [listen]."""
    text = uncommented(shipped("mailmapd.toml"), listen, *DICT_LINES)
    text = text.replace(
        '\n#database = "mail"\n#dovecot_query', '\ndatabase = "mail"\ndovecot_query'
    )
    for old, new in moved.items():
        assert old in text, f"configs/mailmapd.toml does not hold {old}"
        text = text.replace(old, new)
    return text


class LocalHost:
    """Postfix and Dovecot 2.3 of this machine, everything below private directories."""

    def __init__(self, database: MariaDB, account: str, passwords: Mapping[str, str]) -> None:
        self.database = database
        self._stack = ExitStack()
        self.directory = self._stack.enter_context(private_directory())
        fill(database, account, passwords)

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(self._stack)
            self.certificate, _ = make_certificate(self.directory)
            self._submission = free_port()
            postfix_directory = stack.enter_context(private_directory())
            self.postfix = self._postfix(postfix_directory)
            self.daemon = stack.enter_context(Daemon(self._daemon_directory(), self._config()))
            self.dovecot = stack.enter_context(self._dovecot())
            stack.enter_context(self.postfix)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def client(self, user: str, password: str) -> MailClient:
        """Return a user's mail programs."""
        return MailClient(
            {**self.dovecot.ports, "submission": self._submission}, self.certificate, user, password
        )

    def postmap(self, name: str, key: str) -> str:
        """Return what `postmap -q` prints for a key of a map."""
        return (
            self.postfix.lookup(settings(shipped("postfix/main.cf"))[name], key.encode()) or b""
        ).decode()

    def listed(self) -> list[str]:
        """Return what `doveadm user '*'` lists."""
        return self.dovecot.users()

    def smtp(self) -> SmtpSession:
        """Open an SMTP session as another mail server does."""
        return self.postfix.smtp()

    def _moved(self) -> dict[str, str]:
        return {
            "/etc/ssl/certs/mail.pem": f"{self.directory}/mail.pem",
            "/etc/ssl/private/mail.key": f"{self.directory}/mail.key",
        }

    def _daemon_directory(self) -> Path:
        directory = self.directory / "mailmapd"
        directory.mkdir()
        (directory / "mail-db-password").write_text(DATABASE_PASSWORD)
        return directory

    def _config(self) -> str:
        moved = {
            "/var/spool/postfix": str(self.postfix.queue_directory),
            "/run/mailmapd/": f"{self.directory}/mailmapd/",
            "/run/mysqld/mysqld.sock": str(self.database.socket),
            "/home/vmail/": f"{self.directory}/mail/",
            "127.0.0.1:9780": f"127.0.0.1:{free_port()}",
        }
        return sample_config("dict = [", moved)

    def _postfix(self, directory: Path) -> Postfix:
        master = shipped(
            "postfix/master.cf", {"submission inet": f"127.0.0.1:{self._submission} inet"}
        )
        main = settings(shipped("postfix/main.cf", self._moved()))
        postfix = Postfix(directory, main | {"header_checks": ""}, chroot=True, services=master)
        postfix.link_socket("mailmapd/socketmap")
        return postfix

    def _dovecot(self) -> Dovecot:
        directory = self.directory / "dovecot"
        directory.mkdir()
        mail = self.directory / "mail"
        mail.mkdir()
        os.chown(mail, int(MAIL_ACCOUNT), int(MAIL_ACCOUNT))
        for name in ("mailmapd-auth.conf.ext", "mailmapd-auth-fresh.conf.ext"):
            where = {"/run/mailmapd/": f"{self.directory}/mailmapd/"}
            (directory / name).write_text(shipped(f"dovecot/2.3/{name}", where))
        moved = self._moved() | {
            "/etc/dovecot/mailmapd-": f"{directory}/mailmapd-",
            "/var/spool/postfix": str(self.postfix.queue_directory),
            "_uid = vmail": f"_uid = {MAIL_ACCOUNT}",
            "_gid = vmail": f"_gid = {MAIL_ACCOUNT}",
        }
        return Dovecot(directory, shipped("dovecot/2.3/dovecot.conf", moved))


class Debian13Host:
    """Postfix 3.10 and Dovecot 2.4 in a Debian 13 system, with the shipped files where they belong.

    The system is the given one, or one of its own for as long as the host runs.
    """

    def __init__(
        self,
        database: MariaDB,
        account: str,
        passwords: Mapping[str, str],
        system: Debian13 | None = None,
    ) -> None:
        self.database = database
        self._given = system
        self.ports = {
            name: free_port() for name in ("smtp", "submission", "imap", "imaps", "pop3", "pop3s")
        }
        self._stack = ExitStack()
        fill(database, account, passwords)

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self.directory = stack.enter_context(private_directory())
            self.system = self._given or stack.enter_context(Debian13())
            self._prepare()
            self.daemon = stack.enter_context(Daemon(self.directory, self._config()))
            self._start(stack, ["dovecot", "-F"], "dovecot")
            wait_until(self._checks_logins, "Dovecot's socket for smtpd in the Debian 13 system")
            self._start(stack, ["/usr/lib/postfix/sbin/master", "-d"], "postfix")
            wait_until(self._greets, "Postfix in the Debian 13 system")
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def client(self, user: str, password: str) -> MailClient:
        """Return a user's mail programs."""
        return MailClient(self.ports, self.certificate, user, password)

    def postmap(self, name: str, key: str) -> str:
        """Return what `postmap -q` prints for a key of a map."""
        table = settings(shipped("postfix/main.cf"))[name]
        return self.system.run(
            "sh", "-c", f"cd /var/spool/postfix && postmap -q '{key}' '{table}'", check=False
        ).stdout.strip()

    def listed(self) -> list[str]:
        """Return what `doveadm user '*'` lists."""
        return self.system.run("doveadm", "user", "*").stdout.splitlines()

    def smtp(self) -> SmtpSession:
        """Open an SMTP session as another mail server does."""
        address = ("127.0.0.1", self.ports["smtp"])
        return SmtpSession(socket.create_connection(address, timeout=60.0))

    def _prepare(self) -> None:
        """Put every file in its place, and forget the mail of earlier runs."""
        system = self.system
        self.certificate, key = make_certificate(self.directory)
        system.write("etc/ssl/certs/mail.pem", self.certificate.read_text())
        system.write("etc/ssl/private/mail.key", key.read_text(), 0o600)
        system.run(
            "sh",
            "-c",
            "getent passwd vmail || { groupadd --system vmail && useradd --system --gid vmail "
            "--home-dir /home/vmail vmail; }",
        )
        system.run(
            "sh", "-c", "rm -rf /home/vmail && install -d -o vmail -g vmail -m 750 /home/vmail"
        )
        system.write("etc/dovecot/mailmapd.lua", shipped("dovecot/2.4/mailmapd.lua"))
        system.write(
            "etc/dovecot/dovecot.conf", shipped("dovecot/2.4/dovecot.conf") + self._dovecot_ports()
        )
        system.run("cp", "/usr/share/postfix/main.cf.debian", "/etc/postfix/main.cf")
        basics = {
            "myhostname": "debian13.test",
            "mydestination": "",
            "inet_interfaces": "127.0.0.1",
            "inet_protocols": "ipv4",
            "maillog_file": "/var/log/mail.log",
        }
        for name, value in (basics | settings(shipped("postfix/main.cf"))).items():
            system.run("postconf", "-e", f"{name} = {value}")
        master = (
            system.path("usr/share/postfix/master.cf.dist")
            .read_text()
            .replace("\nsmtp      inet", f"\n127.0.0.1:{self.ports['smtp']} inet")
        )
        submission = shipped(
            "postfix/master.cf", {"submission inet": f"127.0.0.1:{self.ports['submission']} inet"}
        )
        system.write("etc/postfix/master.cf", master + submission)
        for name in ("main.cf", "master.cf"):
            os.utime(
                system.path(f"etc/postfix/{name}"), (time.time() - 60,) * 2
            )  # Postfix waits until a fresh file has settled
        system.run("postfix", "check")  # makes the queue
        system.run("postsuper", "-d", "ALL")

    def _dovecot_ports(self) -> str:
        services = {"imap": ("imap", "imaps"), "pop3": ("pop3", "pop3s")}
        blocks = [
            f"service {service}-login {{\n"
            + "".join(
                f"  inet_listener {name} {{\n    port = {self.ports[name]}\n  }}\n"
                for name in names
            )
            + "}\n"
            for service, names in services.items()
        ]
        return (
            "".join(blocks)
            + "listen = 127.0.0.1\nlog_path = /var/log/dovecot.log\nauth_failure_delay = 0\n"
        )

    def _config(self) -> str:
        (self.directory / "mail-db-password").write_text(DATABASE_PASSWORD)
        root = self.system.folder
        for name in ("run/mailmapd", "var/spool/postfix/mailmapd"):
            self.system.path(name).mkdir(exist_ok=True)
            self.system.path(name).chmod(0o755)
        moved = {
            "/var/spool/postfix": f"{root}/var/spool/postfix",
            "unix:/run/mailmapd/": f"unix:{root}/run/mailmapd/",
            "/run/mysqld/mysqld.sock": str(self.database.socket),
            "127.0.0.1:9780": f"127.0.0.1:{free_port()}",
            'group = "postfix"': f'group = "{self.system.group("postfix")}"',
            'group = "dovecot"': f'group = "{self.system.group("dovecot")}"',
            'peers = ["dovecot"]': f'peers = ["{self.system.user("dovecot")}"]',
        }
        return sample_config("lookup_http = ", moved)

    def _checks_logins(self) -> bool:
        with socket.socket(socket.AF_UNIX) as client:
            return client.connect_ex(str(self.system.path("var/spool/postfix/private/auth"))) == 0

    def _start(self, stack: ExitStack, command: list[str], name: str) -> None:
        process = self.system.start(command, self.directory / f"{name}.log")
        stack.callback(process.stop)

    def _greets(self) -> bool:
        try:
            with smtplib.SMTP("127.0.0.1", self.ports["submission"], timeout=10):
                return True
        except OSError:
            return False
