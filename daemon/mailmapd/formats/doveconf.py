"""The passdb and userdb sections of a Dovecot 2.3 configuration, as `doveconf -n` prints them.

    passdb {
      args = /etc/dovecot/dovecot-sql.conf.ext
      driver = sql
    }
    userdb {
      args = uid=vmail gid=vmail home=/home/vmail/%d/%n
      driver = static
    }

`doveconf` resolves includes and defaults; its output has one setting a line and two blanks of indentation a level.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mailmapd.errors import ConfigError, Fault

TIMEOUT = 30.0  # seconds


@dataclass(frozen=True, slots=True)
class AuthSection:
    """One section: `kind` is passdb or userdb."""

    kind: str
    settings: dict[str, str]

    @property
    def driver(self) -> str:
        """The section's driver, such as sql, static or prefetch."""
        return self.settings.get("driver", "")

    @property
    def args(self) -> str:
        """The section's args: a file for sql, a template for static."""
        return self.settings.get("args", "")


def read_auth_sections(config: Path | None = None) -> list[AuthSection]:
    """Return the sections of the installed Dovecot (or of another main configuration file). Raises ConfigError."""
    program = shutil.which("doveconf")
    file = str(config or "doveconf -n")
    if program is None:
        raise ConfigError(
            [
                Fault(
                    file,
                    "",
                    "cannot be read: doveconf is not installed",
                    "name the file with --dovecot-sql instead",
                )
            ]
        )
    command = [program, "-n", *([] if config is None else ["-c", str(config)])]
    try:
        # Dovecot's own program
        done = subprocess.run(command, capture_output=True, timeout=TIMEOUT, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ConfigError(
            [Fault(file, "", "doveconf does not run", "name the file with --dovecot-sql instead")]
        ) from error
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise ConfigError(
            [
                Fault(
                    file,
                    "",
                    f"doveconf refuses it: {said[-1] if said else done.returncode}",
                    "correct it first",
                )
            ]
        )
    return list(parse_auth_sections(done.stdout.decode("utf-8", "surrogateescape")))


def parse_auth_sections(text: str) -> Iterator[AuthSection]:
    """Yield the passdb and userdb sections at the top level of `doveconf -n`'s output, in order."""
    current: AuthSection | None = None
    for line in text.splitlines():
        if line in ("passdb {", "userdb {"):
            current = AuthSection(line.split()[0], {})
        elif line == "}" and current is not None:
            yield current
            current = None
        elif current is not None and line.startswith("  ") and not line.startswith("   "):
            name, equals, value = line.strip().partition(" = ")
            if equals:
                current.settings[name] = value
