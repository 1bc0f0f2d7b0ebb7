"""Finding passwords and keys without ever showing them."""

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
    where = f"database.{name}.password_file"
    return _read(config.file, database.password_file, where, environment)


def changes_password(config: Config, name: str, environment: Mapping[str, str] = os.environ) -> str:
    """Return the password of `[database.name.changes]`, or an empty text; its file is looked for in the same places."""
    changes = config.databases[name].changes
    if changes is None or changes.password_file is None:
        return ""
    return _read(
        config.file, changes.password_file, f"database.{name}.changes.password_file", environment
    )


def webhook_token(config: Config, environment: Mapping[str, str] = os.environ) -> str:
    """Return the token that a webhook must bring, or an empty text; its file is looked for likewise."""
    file, where = config.listen.webhook_token_file, "listen.webhook_token_file"
    if file is None:
        return ""
    token = _read(config.file, file, where, environment).strip()
    if not token:
        raise ConfigError(
            [Fault(config.file, where, f"{file} is empty", "write a long secret into it")]
        )
    return token


def cluster_secret(config: Config, key: str, environment: Mapping[str, str] = os.environ) -> str:
    """Return what the file that `[cluster]` names under `key` holds, or an empty text; it is looked for likewise.

    Raises ConfigError.
    """
    file = None if config.cluster is None else getattr(config.cluster, key)
    return "" if file is None else _read(config.file, file, f"cluster.{key}", environment)


def secret_files(config: Config) -> dict[str, str]:
    """Return every file of a secret that the configuration names, by the key that names it."""
    named: dict[str, str | None] = {"listen.webhook_token_file": config.listen.webhook_token_file}
    for name, database in config.databases.items():
        named[f"database.{name}.password_file"] = database.password_file
        if database.changes is not None:
            named[f"database.{name}.changes.password_file"] = database.changes.password_file
    if config.cluster is not None:
        for key in ("password_file", "sentinel_password_file", "key_file"):
            named[f"cluster.{key}"] = getattr(config.cluster, key)
    return {where: file for where, file in named.items() if file is not None}


def _read(config_file: str, password_file: str, where: str, environment: Mapping[str, str]) -> str:
    path = locate_secret(config_file, password_file, environment)
    try:
        text = path.read_bytes().decode("utf-8")
    except OSError as error:
        remedy = "check the path and its permissions for the daemon's user"
        if "CREDENTIALS_DIRECTORY" not in environment and not Path(password_file).is_absolute():
            remedy += "; for a secret of systemd's, set CREDENTIALS_DIRECTORY=/etc/credstore"
        raise ConfigError(
            [Fault(config_file, where, f"{path} cannot be read: {error.strerror}", remedy)]
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError(
            [Fault(config_file, where, f"{path} is not UTF-8", "save the password as UTF-8 text")]
        ) from error
    return text.removesuffix("\n").removesuffix("\r")


def locate_secret(config_file: str, password_file: str, environment: Mapping[str, str]) -> Path:
    """Return where a secret is: among systemd's credentials, or else beside the configuration."""
    path = Path(password_file)
    if path.is_absolute():
        return path
    credentials = environment.get("CREDENTIALS_DIRECTORY")
    # Path.exists raises what os.path.exists takes for "no"
    if credentials and os.path.exists(Path(credentials) / path):  # noqa: PTH110
        return Path(credentials) / path
    return Path(config_file).resolve().parent / path
