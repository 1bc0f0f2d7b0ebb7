"""What the service would fail to read: credentials that its unit does not load, and files closed to its account."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest

from mailmapd.check.files_read import files_read
from mailmapd.check.service_files import service_file_findings
from mailmapd.config.loader import parse_config
from mailmapd.formats.systemd_unit import Unit
from mailmapd.sockets import access_list

DATABASE = '[database.mail]\ndriver = "mysql"\npassword_file = "{}"\n'
CLUSTER = '[cluster]\nurl = "unix:/nowhere"\npassword_file = "{0}"\nkey_file = "{0}"\n'
CHANGES = (
    '[database.mail]\ndriver = "mysql"\n[database.mail.changes]\nuser = "c"\npassword_file = "{}"\n'
)
WEBHOOK = '[listen]\nwebhook = "127.0.0.1:9781"\nwebhook_token_file = "{}"\n'
ACCOUNT = "nobody"


def found(folder: Path, text: str, store: Path, loaded: str = "") -> list[tuple[str, str, str]]:
    """Return the findings' codes, places and remedies; the configuration's own file is one of `folder`."""
    file = folder / "mailmapd.toml"
    file.write_text(text)
    values = {"User": [ACCOUNT], "LoadCredential": [loaded] if loaded else []}
    service = Unit("mailmapd.service", True, values)
    config = parse_config(text, str(file))
    environment = {"CREDENTIALS_DIRECTORY": str(store)}
    files = files_read(config, {}, environment)
    findings = service_file_findings(files, service, environment)
    return [(finding.code, finding.where, finding.remedy) for finding in findings]


@pytest.mark.parametrize(
    ("text", "places"),
    [
        (DATABASE, ["database.mail.password_file"]),
        (CHANGES, ["database.mail.changes.password_file"]),
        (CLUSTER, ["cluster.password_file", "cluster.key_file"]),
        (WEBHOOK, ["listen.webhook_token_file"]),
    ],
)
def test_credential_that_the_unit_does_not_load(
    short_path: Path, text: str, places: list[str]
) -> None:
    """A credential that `check` finds and the unit does not load is a fault, with the drop-in that loads it."""
    store, folder = short_path / "store", short_path / "etc"
    store.mkdir()
    folder.mkdir()
    (store / "my-own").touch()
    text = text.format("my-own")
    missing = found(folder, text, store, "mail-db-password")
    assert [(code, where) for code, where, _ in missing] == [
        ("credential", place) for place in places
    ]
    assert all("LoadCredential=my-own" in remedy for _, _, remedy in missing)
    assert found(folder, text, store, "my-own:/etc/secrets/x") == []
    (store / "my-own").unlink()
    (folder / "my-own").touch()
    assert found(folder, text, store, "mail-db-password") == []


@pytest.mark.root
@pytest.mark.parametrize(
    ("text", "where"),
    [
        (DATABASE.format("x"), "database.mail.password_file"),
        ('[table.t]\npostfix_cf = "x"\n', "table.t.postfix_cf"),
        ('[dict.auth]\ndovecot_sql = "x"\n', "dict.auth.dovecot_sql"),
        (
            '[database.mail]\ndriver = "mysql"\ntls = {ca = "x"}\n',
            "database.mail.tls.ca",
        ),
        ('[database.mail]\ndriver = "sqlite"\npath = "x"\n', "database.mail.path"),
    ],
)
def test_file_that_the_account_may_not_read(short_path: Path, text: str, where: str) -> None:
    """A file that root can read and the service's account cannot is a fault, until its mode or its
    access list lets the account in.
    """
    file = short_path / "x"
    file.touch(0o600)
    remedy = f"setfacl -m u:{ACCOUNT}:r {file}"
    assert found(short_path, text, short_path / "no") == [("closed_file", where, remedy)]
    access_list.let_in(str(file), 0o640, user=pwd.getpwnam(ACCOUNT).pw_uid)
    assert found(short_path, text, short_path / "no") == []
    access_list.forget(str(file))
    file.chmod(0o640)
    assert len(found(short_path, text, short_path / "no")) == 1
    os.chown(file, 0, pwd.getpwnam(ACCOUNT).pw_gid)
    assert found(short_path, text, short_path / "no") == []


@pytest.mark.root
def test_folder_that_the_account_may_not_enter(short_path: Path) -> None:
    """A configuration in a folder of root's own is a fault that no mode of the file mends."""
    folder = short_path / "own"
    folder.mkdir(0o700)
    [(code, where, remedy)] = found(folder, "", short_path)
    assert (code, where) == ("closed_file", f"{folder}/mailmapd.toml")
    assert "such as /etc/mailmapd" in remedy
