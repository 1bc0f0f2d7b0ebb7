"""Finding a database's password without ever showing it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from mailmapd.config.schema import Config, DatabaseSection
from mailmapd.errors import ConfigError, Fault


def database_password(
    config: Config, name: str, environment: Mapping[str, str] = os.environ
) -> str:
    """Return the password of `[database.name]`, or an empty text.

    A `password_file` that is no absolute path is looked for among systemd's credentials
    ($CREDENTIALS_DIRECTORY, see systemd.exec(5)) first, then beside the configuration file. One
    final newline is not part of the password. Raises ConfigError.
    """
    database: DatabaseSection = config.databases[name]
    if database.password is not None:
        return database.password
    if database.password_file is None:
        return ""
    path = _locate(config.file, database.password_file, environment)
    where = f"database.{name}.password_file"
    try:
        text = path.read_bytes().decode("utf-8")
    except OSError as error:
        remedy = "check the path and its permissions for the daemon's user"
        if (
            "CREDENTIALS_DIRECTORY" not in environment
            and not Path(database.password_file).is_absolute()
        ):
            remedy += "; for a secret of systemd's, set CREDENTIALS_DIRECTORY=/etc/credstore"
        raise ConfigError(
            [Fault(config.file, where, f"{path} cannot be read: {error.strerror}", remedy)]
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError(
            [Fault(config.file, where, f"{path} is not UTF-8", "save the password as UTF-8 text")]
        ) from error
    return text.removesuffix("\n").removesuffix("\r")


def _locate(config_file: str, password_file: str, environment: Mapping[str, str]) -> Path:
    path = Path(password_file)
    if path.is_absolute():
        return path
    credentials = environment.get("CREDENTIALS_DIRECTORY")
    # Path.exists raises what os.path.exists takes for "no"
    if credentials and os.path.exists(Path(credentials) / path):  # noqa: PTH110
        return Path(credentials) / path
    return Path(config_file).resolve().parent / path
