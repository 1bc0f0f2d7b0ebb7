"""The whole move of a running Postfix, and back, for six ways of keeping mail in MySQL."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.daemon import SOURCE, Daemon
from support.mariadb import MariaDB, private_directory
from support.postfix import Postfix
from support.stacks import STACKS, Stack, world
from support.stacks.stack import USER

pytestmark = [pytest.mark.servers, pytest.mark.root]

EXPECTED_FINDINGS = {
    "tutorial": {"one_name_one_domain", "plain_passwords"},
    "postfixadmin": set(),
    "ispmail": {"missing_index", "virtual_agent"},
    "iredmail": set(),
    "vimbadmin": {"virtual_agent"},
    "froxlor": {"full_scan", "virtual_agent"},
}
"""What `check` says of each stack before the move (sockets' folders aside)."""


@dataclass
class Installation:
    """One stack on a running Postfix and MariaDB."""

    stack: Stack
    server: MariaDB
    postfix: Postfix
    folder: Path

    def mailmapd(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command of mailmapd."""
        command = [sys.executable, "-m", "mailmapd", *arguments]
        return subprocess.run(command, env=os.environ | {"PYTHONPATH": str(SOURCE)}, capture_output=True, text=True, check=False)

    def verify(self, config: Path, *options: str) -> str:
        """Run `mailmapd verify`, which must find no difference, and return its summary."""
        done = self.mailmapd("verify", "--config", str(config), "--postfix", str(self.postfix.config), *options)
        assert done.returncode == 0, done.stdout + done.stderr
        summary = done.stdout.splitlines()[-1]
        assert "0 differences" in summary
        return summary

    def settle(self) -> None:
        """Give main.cf and master.cf an old date, and reload: Postfix waits for seconds until fresh files have settled."""
        for name in ("main.cf", "master.cf"):
            past = time.time() - 60
            os.utime(self.postfix.config / name, (past, past))
        self.postfix.reload()

    def sessions(self) -> dict[str, object]:
        """Return what SMTP clients see for every sender and recipient, and the recipients in the queue."""
        seen: dict[str, object] = {}
        for sender in world.senders():
            seen[f"{sender}:replies"] = list(self.replies(sender, world.recipients()))
        self.postfix.purge()
        for recipient in world.recipients():
            self.postfix.send("someone@outside.example", [recipient])
        queue = self.postfix.queue()
        seen["queue"] = sorted((message.addresses for message in queue), key=str)
        self.postfix.purge()
        return seen

    def replies(self, sender: str, recipients: list[str]) -> Iterator[str]:
        """Yield the reply to each recipient (with what it says of the sender, which Postfix checks at this point)."""
        with self.postfix.smtp() as session:
            session.mail(sender)
            for recipient in recipients:
                yield session.rcpt(recipient)

    def selects(self, recipient: str) -> int:
        """Return how many SELECTs one message to the recipient costs, from MAIL FROM until it is queued, asked by fresh processes."""
        self.postfix.reload()
        self.server.log_queries()
        self.postfix.send("someone@outside.example", [recipient])
        count = self.server.count_selects(USER)
        self.server.log_queries(False)
        return count


@pytest.fixture(params=STACKS, ids=lambda stack: stack.name)
def installation(request: pytest.FixtureRequest, mariadb: MariaDB) -> Iterator[Installation]:
    """Set a stack up on its original maps."""
    stack: Stack = request.param
    stack.create(mariadb)
    with private_directory() as folder:
        postfix = Postfix(folder, {"recipient_delimiter": "+", "smtpd_reject_unlisted_sender": "no"})
        stack.write_cf(mariadb, folder / "sql")
        main_cf = postfix.config / "main.cf"
        main_cf.write_text(main_cf.read_text() + stack.main_cf.format(cf=folder / "sql"))
        os.utime(main_cf, (time.time() - 60,) * 2)
        with postfix:
            yield Installation(stack, mariadb, postfix, folder)


def block(report: str, title: str) -> str:
    """Return the shell lines of a block of the report, without the reload (`settle` does that without Postfix's sleeps)."""
    text = report.partition(f"# ---- {title}")[2].partition("# ----")[0]
    assert "reload" in text
    lines = [line for line in text.splitlines()[1:] if line and not line.startswith("#")]
    return "\n".join(re.sub(r"(^| && )postfix -c \S+ reload", "", line) for line in lines)


def paste(text: str) -> None:
    """Paste lines into a shell."""
    done = subprocess.run(["sh", "-e"], input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_moving_changes_no_answer_and_moving_back_no_byte(installation: Installation) -> None:
    """After the move the same sessions get the same replies and recipients, and the way back restores the very same files."""
    stack, postfix, folder = installation.stack, installation.postfix, installation.folder
    originals = {name: (postfix.config / name).read_bytes() for name in ("main.cf", "master.cf")}
    before = installation.sessions()
    costs = {recipient: installation.selects(recipient) for recipient in ("user00@d00.example", "user00+ext@d00.example")}
    postfix.purge()

    config = folder / "mailmapd" / "mailmapd.toml"
    imported = installation.mailmapd("import", "--postfix", str(postfix.config), "--output", str(config))
    assert imported.returncode == 0, imported.stderr
    assert "Not moved" not in imported.stdout
    postfix.link_socket("mailmapd/socketmap")
    text = re.sub(r"(?m)^(http|control) = .*\n", "", config.read_text())
    config.write_text(text)

    checked = installation.mailmapd("check", "--config", str(config), "--postfix", str(postfix.config), "--format", "json")
    assert {finding["code"] for finding in json.loads(checked.stdout)} == EXPECTED_FINDINGS[stack.name], checked.stdout

    with Daemon(config.parent, text):
        (postfix.queue_directory / "mailmapd/socketmap").chmod(0o666)
        maps = [name for name in tomllib.loads(text)["map"] if name != stack.slow_map]
        limit = str(max(800, 7000 // len(maps)))
        verified = installation.verify(config, *[part for name in maps for part in ("--map", name)], "--limit", limit)
        assert int(verified.split()[0]) >= 5000, verified
        if stack.slow_map:
            installation.verify(config, "--map", stack.slow_map, "--limit", "100")

        paste(block(imported.stdout, "Switch over"))
        assert b"socketmap:unix:mailmapd/socketmap:" in (postfix.config / "main.cf").read_bytes()
        installation.settle()
        assert installation.sessions() == before
        after = {recipient: installation.selects(recipient) for recipient in costs}
        postfix.purge()
        socket = f"unix:{postfix.queue_directory}/mailmapd/socketmap"
        installation.verify(config, *[part for name in maps for part in ("--map", name)], "--limit", "100", "--socket", socket)

        paste(block(imported.stdout, "Switch back"))
        installation.settle()
    assert {name: (postfix.config / name).read_bytes() for name in originals} == originals
    assert list(postfix.config.glob("*.before-mailmapd")) == []
    assert postfix.send("someone@outside.example", ["user00@d00.example"])[0].startswith("250")
    postfix.purge()
    assert all(count == 0 for count in after.values()), after
    selects = f"SELECTs per recipient: before {list(costs.values())}, after {list(after.values())}"
    print(f"\n{stack.name}: {selects}; verify: {verified}")
