"""Finding passwords and keys without ever showing them."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path

from mailmapd.config.files import path_beside
from mailmapd.config.schema import Config, DatabaseSection
from mailmapd.errors import ConfigError, Fault

_MOST_BYTES = 65536  # of a file of a secret


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
    return _read(config.file, file, where, environment).strip()


def cluster_secret(config: Config, key: str, environment: Mapping[str, str] = os.environ) -> str:
    """Return what the file that `[cluster]` names under `key` holds, or an empty text; it is looked for likewise.

    Raises ConfigError.
    """
    file = None if config.cluster is None else getattr(config.cluster, key)
    return "" if file is None else _read(config.file, file, f"cluster.{key}", environment)


def _read(config_file: str, file: str, where: str, environment: Mapping[str, str]) -> str:
    path = locate_secret(config_file, file, environment)
    problem, remedy = "", ""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            problem, remedy = "is no plain file", "name the file that holds the secret"
        elif path.stat().st_size > _MOST_BYTES:
            problem, remedy = "is too large for a secret", "name the file that holds the secret"
        else:
            text = path.read_bytes().decode("utf-8")
            if text.strip():
                return text.removesuffix("\n").removesuffix("\r")
            problem = "is empty, which would be no secret at all"
            remedy = f"write the secret into it, or remove {where}"
    except OSError as error:
        problem = f"cannot be read: {error.strerror}"
        remedy = "check the path and its permissions for the daemon's user"
        store = environment.get("CREDENTIALS_DIRECTORY")
        if store is None and not Path(file).is_absolute():
            remedy += "; for a secret of systemd's, set CREDENTIALS_DIRECTORY=/etc/credstore"
        elif store and not Path(file).is_absolute() and not os.access(store, os.X_OK):
            remedy = f"CREDENTIALS_DIRECTORY is {store}, which this account may not enter: run it as root"
    except UnicodeDecodeError:
        problem, remedy = "is not UTF-8", "save the secret as UTF-8 text"
    raise ConfigError([Fault(config_file, where, f"{path} {problem}", remedy)])


def locate_secret(config_file: str, file: str, environment: Mapping[str, str]) -> Path:
    """Return where a secret is: among systemd's credentials, or else beside the configuration."""
    path = Path(file)
    if path.is_absolute():
        return path
    credentials = environment.get("CREDENTIALS_DIRECTORY")
    # Path.exists raises what os.path.exists takes for "no"
    if credentials and os.path.exists(Path(credentials) / path):  # noqa: PTH110
        return Path(credentials) / path
    return path_beside(config_file, file)
