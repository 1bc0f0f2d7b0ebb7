"""Every key of the configuration with nonsense in it: `check` ends with a status that is documented, and no traceback.

The keys are those of configs/mailmapd.schema.json, so that a new one is tried as well.
"""

from __future__ import annotations

import copy
import json
import os
import pwd
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from mailmapd.cli import mailmapd
from mailmapd.config.schema import Config, FileName, FileWithSecret, SecretFile
from mailmapd.importers.toml_writer import toml_value
from support.guide import PROJECT
from support.schema_keys import keys_of_kind

SCHEMA = json.loads((PROJECT / "configs" / "mailmapd.schema.json").read_text())
NAMES = {
    "database": "mail",
    "table": "alias",
    "map": "virtual_alias_maps",
    "dict": "auth",
    "tcp_table": "virtual_alias_maps",
}
"""Whose sections have a name of the administrator's, and which one they have here."""

Document = dict[str, Any]
Key = tuple[str, ...]


def keys() -> Iterator[Key]:
    """Yield the place of every key in a document."""
    yield from _keys(SCHEMA, ())


def _keys(node: Document, where: Key) -> Iterator[Key]:
    node = _resolved(node)
    for name, named in node.get("properties", {}).items():
        yield (*where, name)
        inner = _resolved(named)
        if isinstance(inner.get("additionalProperties"), dict):
            yield (*where, name, NAMES[name])
            yield from _keys(inner["additionalProperties"], (*where, name, NAMES[name]))
        else:
            yield from _keys(inner, (*where, name))


def _resolved(node: Document) -> Document:
    for option in (node, *node.get("anyOf", ())):
        if "$ref" in option:
            return SCHEMA["$defs"][option["$ref"].rpartition("/")[2]]  # type: ignore[no-any-return]
    return node


def base(folder: Path) -> Document:
    """Return a configuration whose servers are all away."""
    away = f"unix:{folder}/away"
    (folder / "secret").write_text("x" * 40 + "\n")
    (folder / "secret").chmod(0o600)
    return {
        "listen": {"socketmap": [f"unix:{folder}/socketmap"], "control": False},
        "database": {"mail": {"driver": "mysql", "hosts": [away], "user": "u", "dbname": "m"}},
        "cluster": {"url": away},
        "dovecot": {"auth_master": away},
        "table": {
            "alias": {"database": "mail", "query": "SELECT a FROM t WHERE k = '%s'"},
            "passdb": {"database": "mail", "dovecot_query": "SELECT p AS password FROM t"},
        },
        "map": {"virtual_alias_maps": {"tables": ["alias"]}},
        "dict": {"auth": {"passdb": "passdb"}},
    }


def place(document: Document, key: Key, value: object) -> Document:
    """Return the document with a value in the place of a key, and without what excludes that key."""
    changed = copy.deepcopy(document)
    inner = changed
    for name in key[:-1]:
        if not isinstance(inner.get(name), dict):
            of_socket = key[0] == "listen" and name not in ("listen", "tcp_table")
            inner[name] = {"address": "unix:/nowhere"} if of_socket else {}
        inner = inner[name]
    if key[-1] in ("postfix_cf", "dovecot_sql", "path"):
        inner.clear()
    if key[-1] == "path":
        inner["driver"] = "sqlite"
    if key[:2] == ("cluster", "tls"):
        changed["cluster"]["url"] = "rediss://127.0.0.1:1"
    inner[key[-1]] = value
    return changed


def checked(folder: Path, document: Document) -> tuple[int, str]:
    """Return the exit status of `check` and what it prints. Nothing but its own errors may come out."""
    file = folder / "mailmapd.toml"
    file.write_text("".join(f"{name} = {toml_value(value)}\n" for name, value in document.items()))
    done = CliRunner().invoke(mailmapd, ["check", "--config", str(file), "--no-postfix"])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.output


def nonsense(folder: Path) -> list[object]:
    """Return values that hardly any key can have."""
    (folder / "folder").mkdir(exist_ok=True)
    (folder / "empty").touch()
    return [
        *(True, -1, 10**30, float("nan"), ["\0"], {"a": 1}),
        *("", "a\nb", "é" * 3000, "9" * 5000, "%{", "1" * 400 + "s"),
        *("nobody-has-this", str(folder / "folder"), str(folder / "empty"), "redis://h:99999"),
    ]


ALL = list(keys())


@pytest.mark.parametrize("key", ALL, ids=".".join)
def test_nonsense(key: Key, short_path: Path) -> None:
    """No value of a key ends in a traceback, and a configuration that is refused names the key."""
    document = base(short_path)
    for value in nonsense(short_path):
        status, output = checked(short_path, place(document, key, value))
        assert status in (os.EX_OK, 1, os.EX_CONFIG), (value, output)
        assert "Traceback" not in output, (value, output)
        if status == os.EX_CONFIG:
            assert key[-1] in output or str(value) in output, (value, output)


def test_base(short_path: Path) -> None:
    """The configuration itself is taken, but for its servers, so that the nonsense alone is refused."""
    status, output = checked(short_path, base(short_path))
    assert status == 1, output
    assert re.search(r"^fault: database mail$", output, re.MULTILINE)


def test_every_key_is_tried() -> None:
    """Keys of every section are among them."""
    names = {".".join(key) for key in ALL}
    assert len(names) > 100
    assert {"cluster.tls.key", "database.mail.changes.password_file", "listen.http.mode"} <= names


FILES = {
    where.rpartition(".")[2]
    for kind in (FileName, SecretFile, FileWithSecret)
    for where in keys_of_kind(Config, kind)
}


@pytest.mark.root
@pytest.mark.parametrize("key", [key for key in ALL if key[-1] in FILES], ids=".".join)
def test_closed_files(key: Key, short_path: Path) -> None:
    """A file that may not be read, or whose folder may not be entered, ends in no traceback either."""
    document = base(short_path)
    short_path.chmod(0o777)
    closed = short_path / "closed"
    closed.mkdir(0o700)
    (closed / "file").touch()
    for value in (short_path / "secret", closed / "file"):
        with somebody_else():
            status, output = checked(short_path, place(document, key, str(value)))
        assert status in (1, os.EX_CONFIG), (value, output)
        if status == os.EX_CONFIG:
            assert key[-1] in output, (value, output)
        (short_path / "mailmapd.toml").unlink()


@contextmanager
def somebody_else() -> Iterator[None]:
    """Be an account without rights."""
    nobody, groups = pwd.getpwnam("nobody"), os.getgroups()
    os.setgroups([])
    os.setegid(nobody.pw_gid)
    os.seteuid(nobody.pw_uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)
