"""import, check, trace and verify as commands: exit statuses, and what they say when something differs or is wrong."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator

import pytest

from support import tutorial
from support.daemon import Daemon
from support.installation import Installation
from support.mariadb import MariaDB, private_directory
from support.postfix import Postfix

pytestmark = pytest.mark.servers


@pytest.fixture(scope="module")
def imported(mariadb: MariaDB) -> Iterator[Installation]:
    """The tutorial's mended database behind a Postfix that is not running, already imported."""
    tutorial.create(mariadb, "commands")
    with private_directory() as folder:
        postfix = Postfix(folder, {"recipient_delimiter": "+"})
        (folder / "sql").mkdir()
        files = tutorial.write_cf(mariadb, folder / "sql", "commands")
        main_cf = postfix.config / "main.cf"
        lines = [
            f"virtual_mailbox_maps = mysql:{files['mailbox']}",
            f"virtual_alias_maps = mysql:{files['alias']}, mysql:{files['alias_domain']}",
        ]
        main_cf.write_text(main_cf.read_text() + "\n".join(lines))
        os.utime(main_cf, (time.time() - 60,) * 2)
        installation = Installation(tutorial.USER, mariadb, postfix, folder)
        done = installation.mailmapd(
            "import", "--postfix", str(postfix.config), "--output", str(folder / "mailmapd.toml")
        )
        assert done.returncode == 0, done.stderr
        yield installation


def test_import_refuses_to_replace_a_configuration(imported: Installation) -> None:
    """A second import is one clear line per file and exit status 78; nothing changes."""
    config = imported.folder / "mailmapd.toml"
    before = config.read_bytes()
    done = imported.mailmapd(
        "import", "--postfix", str(imported.postfix.config), "--output", str(config)
    )
    assert (done.returncode, config.read_bytes()) == (78, before)
    assert (
        f"mailmapd: {config}: exists already; choose another --output, or pass --force to replace it"
        in done.stderr
    )


def test_import_names_every_fault_and_writes_nothing(imported: Installation) -> None:
    """A main.cf that leads to a cycle, or to files that are not there, is told line by line."""
    folder = imported.folder / "broken"
    folder.mkdir()
    (folder / "main.cf").write_text("a = $b\nb = $a\nvirtual_alias_maps = mysql:/x/$a\n")
    done = imported.mailmapd("import", "--postfix", str(folder), "--output", str(folder / "m.toml"))
    assert done.returncode == 78
    cycle = (
        "virtual_alias_maps: refers to itself: $a → $b → $a; correct it; Postfix refuses it as well"
    )
    assert done.stderr == f"mailmapd: {folder}/main.cf: line 3: {cycle}\n"
    (folder / "main.cf").write_text(
        "virtual_alias_maps = mysql:/nowhere/one.cf mysql:/nowhere/two.cf\n"
    )
    done = imported.mailmapd("import", "--postfix", str(folder), "--output", str(folder / "m.toml"))
    assert [line.partition(": ")[2].partition(":")[0] for line in done.stderr.splitlines()] == [
        "/nowhere/one.cf",
        "/nowhere/two.cf",
    ]
    assert not (folder / "m.toml").exists()


def test_trace_tells_and_exits_like_postmap(imported: Installation) -> None:
    """Trace exits 0 for found and 1 for not found, and its JSON has every step."""
    config = str(imported.folder / "mailmapd.toml")
    told = imported.mailmapd(
        "trace", "virtual_alias_maps", "team+x@example.com", "--config", config
    )
    assert told.returncode == 0
    assert re.search(
        r"Answer: found  alice\+x@example.com, ?bob\+x@example.com, ?carol\+x@example.net",
        told.stdout,
    )
    assert "SELECT destination FROM email_aliase WHERE aliase = 'team@example.com'" in told.stdout
    none = imported.mailmapd(
        "trace",
        "virtual_mailbox_maps",
        "nobody@example.com",
        "--config",
        config,
        "--format",
        "json",
    )
    assert none.returncode == 1
    story = json.loads(none.stdout)
    assert (story["answer"], [step["event"] for step in story["steps"]]) == (
        "not_found",
        ["no_row", "no_row"],
    )
    unknown = imported.mailmapd("trace", "virtual_mailbox_map", "x", "--config", config)
    assert unknown.returncode == 2
    assert "there are: virtual_mailbox_maps, virtual_alias_maps" in unknown.stderr


def test_trace_tells_what_a_running_daemon_remembers(imported: Installation) -> None:
    """With a daemon at the control socket, each query is told with the age of the answer in its memory."""
    folder = imported.folder / "running"
    folder.mkdir()
    text = re.sub(r"(?m)^http = .*\n", "", (imported.folder / "mailmapd.toml").read_text())
    text = re.sub(r"(?m)^(socketmap|control) = .*$", rf'\1 = "unix:{folder}/\1"', text).replace(
        f'"unix:{folder}/socketmap"', f'["unix:{folder}/socketmap"]'
    )
    (folder / "commands-imported-password").write_text(tutorial.PASSWORD)
    with Daemon(folder, text) as daemon:
        arguments = (
            "trace",
            "virtual_mailbox_maps",
            "alice@example.com",
            "--config",
            str(daemon.config),
        )
        assert "in the daemon's memory: nothing" in imported.mailmapd(*arguments).stdout
        with daemon.socketmap() as client:
            client.ask("virtual_mailbox_maps", b"alice@example.com")
        assert re.search(
            r"in the daemon's memory: a row known since 20\S+ \S+ \(\d+ s\), fresh for .*, not followed because ",
            imported.mailmapd(*arguments).stdout,
        )
    assert "in the daemon's memory" not in imported.mailmapd(*arguments).stdout


def test_verify_shows_a_difference_with_both_answers(imported: Installation) -> None:
    """A configuration that answers otherwise makes verify exit 1, with both answers and the trace to run."""
    text = (imported.folder / "mailmapd.toml").read_text()
    other = imported.folder / "other.toml"
    other.write_text(
        text.replace(
            "SELECT mail_dir FROM email_user WHERE mail_account = '%s'",
            "SELECT 'x' FROM email_user WHERE mail_account = '%s'",
        )
    )
    done = imported.mailmapd(
        *(
            "verify",
            "--config",
            str(other),
            "--postfix",
            str(imported.postfix.config),
            "--map",
            "virtual_mailbox_maps",
            "--limit",
            "100",
        )
    )
    assert done.returncode == 1
    assert re.search(
        r"  Postfix:  \S+/\w+/( \(.*\))?\n  mailmapd: x\n  mailmapd trace virtual_mailbox_maps .+ --config ",
        done.stdout,
    )


def test_verify_takes_keys_from_files_and_logs(imported: Installation) -> None:
    """Keys come from a file and a mail log as well, and alone when the tables are left out."""
    keys, log = imported.folder / "keys", imported.folder / "mail.log"
    keys.write_text("bob@example.com\nnobody@example.com\n")
    log.write_text("postfix/lmtp[1]: A: to=<carol@example.com>, orig_to=<x@example.com>, relay=y\n")
    options = ("--keys", str(keys), "--mail-log", str(log), "--no-database-keys")
    summary = imported.verify(imported.folder / "mailmapd.toml", *options)
    assert 20 < int(summary.split()[0]) < 60


def test_verify_without_a_common_map_is_a_clear_fault(imported: Installation) -> None:
    """A configuration with other maps than main.cf's is refused with both lists."""
    strange = imported.folder / "strange.toml"
    strange.write_text(
        '[database.d]\ndriver = "sqlite"\npath = "/x"\n[table.t]\ndatabase = "d"\nquery = '
        '"SELECT \'%s\'"\n[map.m]\ntables = ["t"]\n'
    )
    done = imported.mailmapd(
        "verify", "--config", str(strange), "--postfix", str(imported.postfix.config)
    )
    assert done.returncode == 78
    assert "has none of the maps" in done.stderr
    assert "its maps are m; main.cf needs virtual_mailbox_maps, virtual_alias_maps" in done.stderr


def test_check_survives_a_database_that_is_away(imported: Installation) -> None:
    """A login that fails is one finding with the host's reason, and the rest of the check goes on."""
    text = (imported.folder / "mailmapd.toml").read_text()
    away = imported.folder / "away.toml"
    away.write_text(text.replace(f"unix:{imported.server.socket}", "unix:/nowhere/mysql.sock"))
    done = imported.mailmapd("check", "--config", str(away), "--no-postfix", "--format", "json")
    found = {finding["code"]: finding["problem"] for finding in json.loads(done.stdout)}
    assert done.returncode == 1
    assert "/nowhere/mysql.sock" in found["login"]
    assert tutorial.PASSWORD not in done.stdout + done.stderr
