from __future__ import annotations

import os
from pathlib import Path

import pytest

from mailmapd.config.loader import parse_config
from mailmapd.config.schema import Config, SecretFile
from mailmapd.config.secrets import database_password
from mailmapd.errors import ConfigError
from mailmapd.plan.assembly import plan
from support.schema_keys import keys_of_kind


def password(folder: Path, line: str, **environment: str) -> str:
    text = f'[database.mail]\ndriver = "mysql"\n{line}\n'
    return database_password(parse_config(text, str(folder / "mailmapd.toml")), "mail", environment)


def test_in_the_file(tmp_path: Path) -> None:
    """A password may stand in the configuration."""
    assert password(tmp_path, 'password = "p"') == "p"


def test_none(tmp_path: Path) -> None:
    """No password is an empty one."""
    assert password(tmp_path, "") == ""


def test_beside_the_configuration(tmp_path: Path) -> None:
    """A relative password_file is found beside the configuration, and its final newline is not part of the password."""
    (tmp_path / "secret").write_text("p#'\" w\n")
    assert password(tmp_path, 'password_file = "secret"') == "p#'\" w"


def test_credential(tmp_path: Path) -> None:
    """A systemd credential of that name comes first."""
    (tmp_path / "secret").write_text("file")
    (tmp_path / "credentials").mkdir()
    (tmp_path / "credentials" / "secret").write_text("credential")
    assert (
        password(
            tmp_path,
            'password_file = "secret"',
            CREDENTIALS_DIRECTORY=str(tmp_path / "credentials"),
        )
        == "credential"
    )


def test_unreadable(tmp_path: Path) -> None:
    """A password file that cannot be read is named by key and path."""
    with pytest.raises(
        ConfigError,
        match=r"database\.mail\.password_file: .*/nothere cannot be read: No such file or directory; check the path",
    ):
        password(tmp_path, 'password_file = "nothere"')


def test_credential_outside_systemd(tmp_path: Path) -> None:
    """A command that systemd did not start is told how to reach systemd's secrets.

    One that has them, or names an absolute path, is not.
    """
    with pytest.raises(ConfigError, match="CREDENTIALS_DIRECTORY=/etc/credstore"):
        password(tmp_path, 'password_file = "nothere"')
    with pytest.raises(ConfigError, match=r"user$"):
        password(tmp_path, 'password_file = "nothere"', CREDENTIALS_DIRECTORY=str(tmp_path))
    with pytest.raises(ConfigError, match=r"user$"):
        password(tmp_path, f'password_file = "{tmp_path}/nothere"')
    with pytest.raises(
        ConfigError, match=r"/closed, which this account may not enter: run it as root$"
    ):
        password(tmp_path, 'password_file = "nothere"', CREDENTIALS_DIRECTORY="/closed")


DATABASE = '[database.d]\ndriver = "mysql"\n'
CLUSTER = '[cluster]\nurl = "unix:/nowhere"\n'
SECRETS = {
    "database.d.password_file": f'{DATABASE}password_file = "secret"\n',
    "database.d.changes.password_file": (
        f'{DATABASE}[database.d.changes]\nuser = "u"\npassword_file = "secret"\n'
    ),
    "cluster.password_file": f'{CLUSTER}password_file = "secret"\n',
    "cluster.key_file": f'{CLUSTER}key_file = "secret"\n',
    "cluster.sentinel_password_file": (
        '[cluster]\nsentinels = ["h:1"]\nservice = "s"\nsentinel_password_file = "secret"\n'
    ),
    "listen.webhook_token_file": (
        '[listen]\nwebhook = "127.0.0.1:1"\nwebhook_token_file = "secret"\n'
    ),
}


@pytest.mark.parametrize("where", SECRETS)
@pytest.mark.parametrize("data", [b"", b"\n", b" \n\n", b"\xff", b"x" * 70_000, None])
def test_what_is_no_secret(tmp_path: Path, where: str, data: bytes | None) -> None:
    """A file that is empty, a folder, not UTF-8 or too long is a fault of its key: a key file without
    a key would mean no signatures, a password file without a password no password.
    """
    config = parse_config(SECRETS[where], str(tmp_path / "mailmapd.toml"))
    if data is None:
        (tmp_path / "secret").mkdir()
    else:
        (tmp_path / "secret").write_bytes(data)
    with pytest.raises(ConfigError) as caught:
        plan(config)
    assert [fault.where for fault in caught.value.faults] == [where]
    assert str(tmp_path / "secret") in caught.value.faults[0].problem
    assert caught.value.faults[0].remedy


def test_every_secret_file_is_in_the_test_above() -> None:
    """A new key that names the file of a secret is tried as well."""
    assert {where.replace(".d.", ".") for where in SECRETS} == set(keys_of_kind(Config, SecretFile))


def test_secret_that_never_ends(tmp_path: Path) -> None:
    """A pipe that nobody writes to, or a device, is no file of a secret, and is not waited for."""
    os.mkfifo(tmp_path / "secret")
    with pytest.raises(ConfigError, match="is no plain file"):
        password(tmp_path, 'password_file = "secret"')
    with pytest.raises(ConfigError, match="is no plain file"):
        password(tmp_path, 'password_file = "/dev/zero"')
