"""The ready-made configurations of configs/schemas, each on a database with its schema, against
that stack's own maps.
"""

from __future__ import annotations

import json
import os
import re
import time
import tomllib
from pathlib import Path

import pytest

from mailmapd.config.loader import parse_config
from mailmapd.snippets.postfix import postfix as postfix_snippet
from support.installation import Installation
from support.mariadb import MariaDB
from support.postfix import Postfix
from support.stacks import STACKS, Stack
from support.stacks.stack import PASSWORD, USER

CONFIGS = Path(__file__).parents[3] / "configs"

EXPECTED_FINDINGS = {
    "tutorial": {"one_name_one_domain", "plain_passwords"},
    "postfixadmin": set(),
    "ispmail": {"missing_index"},
    "iredmail": {"unquoted_variable"},
    "vimbadmin": set(),
    "froxlor": {"missing_index"},
}
"""What is left for the administrator, as each preset's header says; Dovecot's sockets are chosen there, too."""

MENDED = ("tutorial", "virtual_mailbox_maps")
"""The tutorial's two queries for one purpose, of which the preset keeps the useful one."""

pytestmark = [pytest.mark.servers]


@pytest.mark.parametrize("stack", STACKS, ids=lambda stack: stack.name)
def test_a_preset_answers_as_the_stack_itself(
    stack: Stack, mariadb: MariaDB, short_path: Path
) -> None:
    """Every query of a preset fits the schema, and its maps answer as the stack's own .cf files do."""
    stack.create(mariadb)
    postfix = Postfix(short_path, {"recipient_delimiter": "+"})
    stack.write_cf(mariadb, short_path / "sql")
    main_cf = postfix.config / "main.cf"
    main_cf.write_text(main_cf.read_text() + stack.main_cf.format(cf=short_path / "sql"))
    os.utime(main_cf, (time.time() - 60,) * 2)
    installation = Installation(USER, mariadb, postfix, short_path)
    config = short_path / "mailmapd.toml"
    text = (CONFIGS / "schemas" / f"{stack.name}.toml").read_text()
    text = re.sub(r"(?m)^hosts = .*$", f'hosts = ["unix:{mariadb.socket}"]', text)
    text = re.sub(r"(?m)^user = .*$", f'user = "{USER}"', text)
    text = re.sub(r"(?m)^dbname = .*$", f'dbname = "s_{stack.name}"', text)
    config.write_text(re.sub(r"(?m)^(socketmap|control) = .*\n", "", text))
    secret = short_path / "mail-db-password"
    secret.write_text(PASSWORD)
    secret.chmod(0o600)
    checked = installation.mailmapd(
        "check", "--config", str(config), "--no-postfix", "--format", "json"
    )
    codes = {finding["code"] for finding in json.loads(checked.stdout)}
    assert codes - {"dict_unserved"} == EXPECTED_FINDINGS[stack.name], checked.stdout
    maps = [name for name in tomllib.loads(text)["map"] if (stack.name, name) != MENDED]
    installation.verify(
        config,
        *[part for name in maps for part in ("--map", name)],
        "--limit",
        "150" if stack.slow_map else "400",
    )


@pytest.mark.parametrize("stack", STACKS, ids=lambda stack: stack.name)
def test_the_shipped_main_cf_lines_are_the_snippet(stack: Stack) -> None:
    """configs/postfix holds what `mailmapd snippets postfix` prints for each preset."""
    config = parse_config(
        (CONFIGS / "schemas" / f"{stack.name}.toml").read_text(), "/etc/mailmapd/mailmapd.toml"
    )
    assert (CONFIGS / "postfix" / f"{stack.name}.sh").read_text() == postfix_snippet(config)
