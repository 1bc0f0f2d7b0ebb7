"""The whole move of a running Postfix, and back, for six ways of keeping mail in MySQL."""

from __future__ import annotations

import json
import os
import re
import time
import tomllib
from collections.abc import Iterator

import pytest

from support.daemon import Daemon
from support.installation import Installation, block, paste
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


@pytest.fixture(params=STACKS, ids=lambda stack: stack.name)
def installed(
    request: pytest.FixtureRequest, mariadb: MariaDB
) -> Iterator[tuple[Stack, Installation]]:
    """Set a stack up on its original maps."""
    stack: Stack = request.param
    stack.create(mariadb)
    with private_directory() as folder:
        postfix = Postfix(
            folder, {"recipient_delimiter": "+", "smtpd_reject_unlisted_sender": "no"}
        )
        stack.write_cf(mariadb, folder / "sql")
        main_cf = postfix.config / "main.cf"
        main_cf.write_text(main_cf.read_text() + stack.main_cf.format(cf=folder / "sql"))
        os.utime(main_cf, (time.time() - 60,) * 2)
        with postfix:
            yield stack, Installation(USER, mariadb, postfix, folder)


def test_moving_changes_no_answer_and_moving_back_no_byte(
    installed: tuple[Stack, Installation],
) -> None:
    """After the move the same sessions get the same replies and recipients, and the way back
    restores the very same files.
    """
    stack, installation = installed
    postfix, folder = installation.postfix, installation.folder
    originals = {name: (postfix.config / name).read_bytes() for name in ("main.cf", "master.cf")}
    before = installation.sessions(world.senders(), world.recipients())
    costs = {
        recipient: installation.selects(recipient)
        for recipient in ("user00@d00.example", "user00+ext@d00.example")
    }
    postfix.purge()

    config = folder / "mailmapd" / "mailmapd.toml"
    imported = installation.mailmapd(
        "import", "--postfix", str(postfix.config), "--output", str(config)
    )
    assert imported.returncode == 0, imported.stderr
    assert "Not moved" not in imported.stdout
    postfix.link_socket("mailmapd/socketmap")
    text = re.sub(r"(?m)^(http|control) = .*\n", "", config.read_text())
    config.write_text(text)

    checked = installation.mailmapd(
        "check", "--config", str(config), "--postfix", str(postfix.config), "--format", "json"
    )
    assert {finding["code"] for finding in json.loads(checked.stdout)} == EXPECTED_FINDINGS[
        stack.name
    ], checked.stdout

    with Daemon(config.parent, text):
        (postfix.queue_directory / "mailmapd/socketmap").chmod(0o666)
        maps = [name for name in tomllib.loads(text)["map"] if name != stack.slow_map]
        limit = str(max(800, 7000 // len(maps)))
        verified = installation.verify(
            config, *[part for name in maps for part in ("--map", name)], "--limit", limit
        )
        assert int(verified.split()[0]) >= 5000, verified
        if stack.slow_map:
            installation.verify(config, "--map", stack.slow_map, "--limit", "100")

        paste(block(imported.stdout, "Switch over"))
        assert b"socketmap:unix:mailmapd/socketmap:" in (postfix.config / "main.cf").read_bytes()
        installation.settle()
        assert installation.sessions(world.senders(), world.recipients()) == before
        after = {recipient: installation.selects(recipient) for recipient in costs}
        postfix.purge()
        socket = f"unix:{postfix.queue_directory}/mailmapd/socketmap"
        installation.verify(
            config,
            *[part for name in maps for part in ("--map", name)],
            "--limit",
            "100",
            "--socket",
            socket,
        )

        paste(block(imported.stdout, "Switch back"))
        installation.settle()
    assert {name: (postfix.config / name).read_bytes() for name in originals} == originals
    assert list(postfix.config.glob("*.before-mailmapd")) == []
    assert postfix.send("someone@outside.example", ["user00@d00.example"])[0].startswith("250")
    postfix.purge()
    assert all(count == 0 for count in after.values()), after
    selects = f"SELECTs per recipient: before {list(costs.values())}, after {list(after.values())}"
    print(f"\n{stack.name}: {selects}; verify: {verified}")
