from __future__ import annotations

from pathlib import Path

import pytest

from mailmapd.config.loader import parse_config
from mailmapd.config.secrets import database_password
from mailmapd.errors import ConfigError


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
