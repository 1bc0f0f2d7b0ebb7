"""Commands about dicts: what they show, and what they refuse."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from support.daemon import SOURCE, Daemon

from .conftest import Mail

pytestmark = [pytest.mark.servers, pytest.mark.root]


def mailmapd(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command of mailmapd."""
    environment = os.environ | {"PYTHONPATH": str(SOURCE)}
    return subprocess.run(
        [sys.executable, "-m", "mailmapd", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_trace_hides_passwords(mail: Mail) -> None:
    """`trace` tells what passdb and userdb give for a user, without the hash, and refuses to write hashes to a pipe."""
    mail.add("traced@example.com", "{PLAIN}very-hidden-word")
    done = mail.daemon.command("trace", "auth", "traced@example.com")
    assert done.returncode == 0, done.stderr
    assert "password = (hidden)" in done.stdout
    assert "home = /srv/mail" in done.stdout
    assert "WHERE username = 'traced@example.com'" in done.stdout
    story = json.loads(
        mail.daemon.command("trace", "auth", "traced@example.com", "--format", "json").stdout
    )
    assert [(step["namespace"], step["answer"]) for step in story["steps"]] == [
        ("passdb", "found"),
        ("userdb", "found"),
    ]
    assert "very-hidden-word" not in done.stdout + json.dumps(story)
    refused = mail.daemon.command("trace", "auth", "traced@example.com", "--show-passwords")
    assert (refused.returncode, "very-hidden-word" in refused.stdout) == (2, False)


def test_trace_of_nobody(mail: Mail) -> None:
    """`trace` ends with status 1 for a user that no table knows, and refuses a variable that Dovecot does not have."""
    assert mail.daemon.command("trace", "auth", "nobody@example.com").returncode == 1
    done = mail.daemon.command("trace", "auth", "nobody@example.com", "--variable", "odd=1")
    assert "write NAME=VALUE, with one of service, lip" in done.stderr


def test_stats_show_no_hash(mail: Mail) -> None:
    """Neither statistics nor metrics hold a user or a hash."""
    mail.add("counted@example.com", "{PLAIN}very-hidden-word")
    mail.dovecot.auth_test("counted@example.com", "very-hidden-word")
    shown = mail.daemon.command("stats").stdout
    assert "auth.passdb" in shown
    for secret in ("counted", "very-hidden-word", "geheim"):
        assert secret not in shown


def test_flush_makes_a_new_password_count(mail: Mail) -> None:
    """After `flush --user`, the next login is checked against the new hash, whoever it is that logs in."""
    mail.add("changed@example.com", "{PLAIN}old")
    assert mail.dovecot.auth_test("changed@example.com", "old").name == "ACCEPTED"
    mail.database.run_sql(
        "UPDATE mailbox SET password = '{PLAIN}new' WHERE username = 'changed@example.com'",
        database=mail.name,
    )
    assert mail.dovecot.auth_test("changed@example.com", "old").name == "ACCEPTED"
    assert mail.daemon.command("flush", "--user", "changed@example.com").returncode == 0
    assert mail.dovecot.auth_test("changed@example.com", "old").name == "REFUSED"
    assert mail.dovecot.auth_test("changed@example.com", "new").name == "ACCEPTED"


def _config(tmp_path: Path, query: str) -> Daemon:
    (tmp_path / "sql.conf").write_text(
        f"driver = sqlite\nconnect = {tmp_path}/mail.sqlite\npassword_query = {query}\n"
    )
    return Daemon(
        tmp_path,
        f'[listen]\ndict = ["unix:{tmp_path}/dict"]\n[dict.auth]\ndovecot_sql = "sql.conf"\n',
    )


@pytest.mark.parametrize("command", ["check", "serve", "snippets"])
def test_plain_password_is_refused(tmp_path: Path, command: str) -> None:
    """A query that needs the plain password stops every command, with its file, its line and the reason."""
    daemon = _config(tmp_path, "SELECT password FROM m WHERE u = '%u' AND p = '%w'")
    done = daemon.command(command, *(["dovecot-2.3"] if command == "snippets" else []))
    assert done.returncode == 78
    assert (
        "sql.conf: line 3: password_query cannot be used: %w is the password in plain"
        in done.stdout + done.stderr
    )


def test_check_names_the_traps(tmp_path: Path) -> None:
    """`check` names a variable that defeats the cache, one outside quotes, and a query without a password."""
    done = _config(tmp_path, "SELECT 1 AS pw FROM m WHERE id = %n AND port = '%b'").command(
        "check", "--format", "json"
    )
    for words in (
        "%{rport}, which differ at every login",
        "value of %{user} without quotes",
        "names no column password",
    ):
        assert words in done.stdout


def test_snippets(mail: Mail) -> None:
    """`snippets dovecot-2.3` prints the settings that this test's Dovecot runs with."""
    done = mail.daemon.command("snippets", "dovecot-2.3")
    assert done.returncode == 0, done.stderr
    assert "key = passdb/%u\n" in done.stdout
    assert f"{mail.daemon.directory}/dict:auth" in done.stdout


def test_import(mail: Mail, tmp_path: Path) -> None:
    """`import --dovecot-sql` writes a configuration that gives the same answers as the file itself."""
    output = tmp_path / "imported.toml"
    sql = mail.daemon.directory / "dovecot-sql.conf.ext"
    done = mailmapd("import", "--no-postfix", "--dovecot-sql", str(sql), "--output", str(output))
    assert done.returncode == 0, done.stderr
    assert "geheim" not in output.read_text()
    mail.add("imported@example.com", "{PLAIN}pw")
    stories = [
        mailmapd(
            "trace", "auth", "imported@example.com", "--format", "json", "--config", str(config)
        )
        for config in (output, mail.daemon.config)
    ]
    fields = [[step["fields"] for step in json.loads(story.stdout)["steps"]] for story in stories]
    assert fields[0] == fields[1]
