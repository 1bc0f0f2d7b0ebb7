"""A Postfix on MySQL maps, to be moved to mailmapd and back.

What its clients see, and what an administrator would paste.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from support.daemon import SOURCE
from support.mariadb import MariaDB
from support.postfix import Postfix


@dataclass
class Installation:
    """A running Postfix and MariaDB; `account` is the maps' database account."""

    account: str
    server: MariaDB
    postfix: Postfix
    folder: Path

    def mailmapd(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command of mailmapd."""
        command = [sys.executable, "-m", "mailmapd", *arguments]
        return subprocess.run(
            command,
            env=os.environ | {"PYTHONPATH": str(SOURCE)},
            capture_output=True,
            text=True,
            check=False,
        )

    def verify(self, config: Path, *options: str) -> str:
        """Run `mailmapd verify`, which must find no difference, and return its summary."""
        done = self.mailmapd(
            "verify", "--config", str(config), "--postfix", str(self.postfix.config), *options
        )
        assert done.returncode == 0, done.stdout + done.stderr
        summary = done.stdout.splitlines()[-1]
        assert "0 differences" in summary
        return summary

    def settle(self) -> None:
        """Give main.cf and master.cf an old date, and reload.

        Postfix waits for seconds until fresh files have settled.
        """
        for name in ("main.cf", "master.cf"):
            past = time.time() - 60
            os.utime(self.postfix.config / name, (past, past))
        self.postfix.reload()

    def sessions(self, senders: Sequence[str], recipients: Sequence[str]) -> dict[str, object]:
        """Return what SMTP clients see for every sender and recipient, and the recipients in the queue."""
        seen: dict[str, object] = {}
        for sender in senders:
            seen[f"{sender}:replies"] = list(self.replies(sender, recipients))
        self.postfix.purge()
        for recipient in recipients:
            self.postfix.send("someone@outside.example", [recipient])
        queue = self.postfix.queue()
        seen["queue"] = sorted((message.addresses for message in queue), key=str)
        self.postfix.purge()
        return seen

    def replies(self, sender: str, recipients: Sequence[str]) -> Iterator[str]:
        """Yield the reply to each recipient (with what it says of the sender, which Postfix checks at this point)."""
        with self.postfix.smtp() as session:
            session.mail(sender)
            for recipient in recipients:
                yield session.rcpt(recipient)

    def selects(self, recipient: str) -> int:
        """Return how many SELECTs one message to the recipient costs, from MAIL FROM until it is
        queued, asked by fresh processes.
        """
        self.postfix.reload()
        self.server.log_queries()
        self.postfix.send("someone@outside.example", [recipient])
        count = self.server.count_selects(self.account)
        self.server.log_queries(False)
        return count


def block(report: str, title: str) -> str:
    """Return the shell lines of a block of the report, without the reload (`settle` does that
    without Postfix's sleeps).
    """
    text = report.partition(f"# ---- {title}")[2].partition("# ----")[0]
    assert "reload" in text
    lines = [line for line in text.splitlines()[1:] if line and not line.startswith("#")]
    return "\n".join(re.sub(r"(^| && )postfix -c \S+ reload", "", line) for line in lines)


def paste(text: str) -> None:
    """Paste lines into a shell."""
    done = subprocess.run(["sh", "-e"], input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
