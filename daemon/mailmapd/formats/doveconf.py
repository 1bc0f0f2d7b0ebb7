"""The passdb and userdb sections of an installed Dovecot, 2.3 or 2.4, as `doveconf -n` prints them.

    passdb {                                           passdb sql {
      args = /etc/dovecot/dovecot-sql.conf.ext           default_password_scheme = SHA512-CRYPT
      driver = sql                                       query = SELECT … WHERE username = '%{user}'
    }                                                  }
    protocol lmtp {
      userdb { … }                  2.3 and 2.4: for this protocol only
    }

`doveconf` resolves includes and defaults. It is asked for passwords as well (-P) where it says that
it has hidden one, as 2.4 does with those of its databases; what it prints is never shown to anybody.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mailmapd.errors import ConfigError, Fault
from mailmapd.formats.dovecot_blocks import HIDDEN, Block, parse_blocks

TIMEOUT = 30.0  # seconds
NAME = "doveconf -n"

_KINDS = ("passdb", "userdb")
_OTHERS_FILE = "name the file with --dovecot-sql instead"


@dataclass(frozen=True, slots=True)
class AuthSection:
    """One section: `kind` is passdb or userdb, `scope` the block around it, such as ``protocol lmtp``."""

    block: Block
    root: Block
    scope: str = ""

    @property
    def kind(self) -> str:
        """Return the section's kind: passdb or userdb."""
        return self.block.kind

    @property
    def driver(self) -> str:
        """Return the section's driver, such as sql, static or prefetch; in 2.4 its name is one."""
        return self.block.value("driver", self.block.name)

    @property
    def args(self) -> str:
        """Return the section's args in 2.3: a file for sql, a template for static."""
        return self.block.value("args")

    @property
    def settings(self) -> dict[str, str]:
        """Return every setting of the section and of the blocks in it."""
        return dict(_settings(self.block, ""))


def _settings(block: Block, above: str) -> Iterator[tuple[str, str]]:
    for name, setting in block.settings.items():
        yield above + name, setting.value
    for inner in block.blocks:
        yield from _settings(inner, f"{above}{inner.title}/")


def installed_sections() -> tuple[list[AuthSection], tuple[int, int] | None]:
    """Return the sections and the version of the installed Dovecot; nothing where there is none that can be asked."""
    try:
        sections = read_auth_sections()
    except ConfigError:
        return [], None
    return sections, sections[0].root.version if sections else None


def read_auth_sections(config: Path | None = None) -> list[AuthSection]:
    """Return the sections of the installed Dovecot (or of another main configuration file). Raises ConfigError."""
    program = shutil.which("doveconf")
    file = str(config or NAME)
    if program is None:
        problem = "cannot be read: doveconf is not installed"
        raise ConfigError([Fault(file, "", problem, _OTHERS_FILE)])
    return list(parse_auth_sections(_run(program, config, file)))


def _run(program: str, config: Path | None, file: str) -> str:
    where = [] if config is None else ["-c", str(config)]
    text = _printed([program, "-n", *where], file)
    return _printed([program, "-n", "-P", *where], file) if HIDDEN in text else text


def _printed(command: list[str], file: str) -> str:
    try:
        # Dovecot's own program
        done = subprocess.run(command, capture_output=True, timeout=TIMEOUT, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ConfigError([Fault(file, "", "doveconf does not run", _OTHERS_FILE)]) from error
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        problem = f"doveconf refuses it: {said[-1] if said else done.returncode}"
        raise ConfigError([Fault(file, "", problem, "correct it first")])
    return done.stdout.decode("utf-8", "surrogateescape")


def parse_auth_sections(text: str) -> Iterator[AuthSection]:
    """Yield the passdb and userdb sections of `doveconf -n`'s output, in order, those of protocols as well.

    Raises ConfigError.
    """
    root = parse_blocks(text, NAME)
    yield from _sections(root, root, "")


def _sections(block: Block, root: Block, scope: str) -> Iterator[AuthSection]:
    for inner in block.blocks:
        if inner.kind in _KINDS:
            yield AuthSection(inner, root, scope)
        elif inner.kind in ("protocol", "remote", "local", "local_name"):
            yield from _sections(inner, root, f"{scope} {inner.title}".strip())
