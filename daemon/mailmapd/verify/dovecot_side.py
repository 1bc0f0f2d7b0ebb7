"""Dovecot's side of verify: every user through the old dovecot-sql.conf.ext and through mailmapd, with a real Dovecot.

Two private Dovecots are started, one after the other, in a folder of their own and without any
listener for mail: one with ``driver = sql`` and the file, one with ``driver = dict`` and the running
mailmapd. What they say of a user (userdb) and of a login (passdb, without its password) must be the
same. Both work as the installed one in what it does to user names.

2.3 only: 2.4 has no dict for passwords.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from mailmapd.config.schema import Config
from mailmapd.errors import ConfigError, Fault, MailmapdError
from mailmapd.formats.dovecot_sql_conf import read_dovecot_sql_conf
from mailmapd.snippets.dovecot import dict_sections_23
from mailmapd.verify.auth_master import AuthAnswer, AuthMaster

_SYSTEM_PATH = "/usr/sbin:/usr/local/sbin:/usr/bin:/bin:/sbin"
_SECRET = re.compile("pass|secret|token|private|hash", re.IGNORECASE)
_START_SECONDS = 20.0
_LOG_SECONDS = 1.0  # a process of Dovecot's own writes the log, later than the answer comes
_ABOUT_NAMES = (
    "auth_username_format",
    "auth_username_chars",
    "auth_username_translation",
    "auth_default_realm",
)
"""Settings that change user names before a database is asked."""

_SETTINGS = """\
base_dir = {folder}/run
state_dir = {folder}/state
log_path = {folder}/log
protocols =
ssl = no
first_valid_uid = 0
auth_cache_size = 0
service auth {{
  unix_listener auth-master {{
    mode = 0600
  }}
}}
"""

Kind = tuple[str, bytes]
"""``user`` or ``login``, and the user's name."""


@dataclass(slots=True)
class DovecotResult:
    """The result of a comparison; `differences` are a question and both answers."""

    users: int = 0
    found: int = 0
    failed: int = 0
    differences: list[tuple[Kind, AuthAnswer | None, AuthAnswer | None]] = field(
        default_factory=list
    )


def compare_dovecot(config: Config, file: Path, limit: int = 0) -> DovecotResult:
    """Compare the first `limit` users (0: all). Raises ConfigError, and MailmapdError when a Dovecot fails."""
    name = _dict_of(config)
    with tempfile.TemporaryDirectory(prefix="mailmapd-verify-") as text:
        folder = Path(text)
        folder.chmod(0o755)  # auth workers are Dovecot's own user
        about_names = _about_names()
        old = _answers(folder / "old", about_names + _old_sections(file), limit)
        extra, sections = dict_sections_23(config, name, str(folder))
        (folder / f"mailmapd-{name}.conf.ext").write_text(extra)
        new = _answers(folder / "new", about_names + sections, limit)
    result = DovecotResult(users=len({user for _, user in old}))
    for question in {**old, **new}:
        one, other = old.get(question), new.get(question)
        result.found += isinstance(one, tuple)
        result.failed += one == "failed"
        if one != other:
            result.differences.append((question, one, other))
    return result


def _dict_of(config: Config) -> str:
    if len(config.dicts) != 1:
        problem = "has no dict" if not config.dicts else "has several dicts"
        raise ConfigError(
            [Fault(config.file, "dict", problem, "verify compares one with the file")]
        )
    return next(iter(config.dicts))


def _old_sections(file: Path) -> str:
    conf = read_dovecot_sql_conf(file)
    section = f"{{\n  driver = sql\n  args = {file.absolute()}\n}}\n"
    passdb = "" if conf.password_query is None else f"passdb {section}"
    return passdb + ("" if conf.user_query is None else f"userdb {section}")


def _about_names() -> str:
    """Return the lines of the installed configuration that change user names."""
    done = subprocess.run(  # noqa: S603 - Dovecot's own program
        [_program("doveconf"), *_ABOUT_NAMES], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise MailmapdError("verify --dovecot-sql needs Dovecot 2.3, whose doveconf works")
    return done.stdout


def _program(name: str) -> str:
    found = shutil.which(name, path=_SYSTEM_PATH)
    if found is None:
        raise MailmapdError(f"{name} is not installed here: run verify on the mail server")
    return found


def _answers(folder: Path, sections: str, limit: int) -> dict[Kind, AuthAnswer]:
    """Return what a Dovecot with these sections says of its users."""
    answers: dict[Kind, AuthAnswer] = {}
    with _dovecot(folder, sections) as path:
        try:
            master = AuthMaster(path)
        except MailmapdError as error:
            raise _with_log(error, folder) from error
        try:
            users = sorted(set(master.users()))[: limit or None]
            answers |= {
                ("user", user): answer
                for user, answer in zip(users, master.lookups("USER", users), strict=True)
            }
            answers |= {
                ("login", user): answer
                for user, answer in zip(users, master.lookups("PASS", users), strict=True)
            }
        except MailmapdError as error:
            raise _with_log(error, folder) from error
        finally:
            master.close()
    return answers


def _with_log(error: MailmapdError, folder: Path) -> MailmapdError:
    """Return the error with the last line that says why in Dovecot's log."""
    log = folder / "log"
    end = time.monotonic() + _LOG_SECONDS
    reasons: list[str] = []
    while not reasons and time.monotonic() < end:
        lines = log.read_text(errors="replace").splitlines() if log.exists() else []
        reasons = [line for line in lines if "Error" in line or "Fatal" in line]
        time.sleep(0.05)
    return MailmapdError(f"{error}; its log says: {reasons[-1]}") if reasons else error


@contextmanager
def _dovecot(folder: Path, sections: str) -> Iterator[Path]:
    """Run a Dovecot, and give its auth-master socket."""
    for part in (folder, folder / "state"):
        part.mkdir()
    main = folder / "dovecot.conf"
    main.write_text(_SETTINGS.format(folder=folder) + sections)
    path = folder / "run" / "auth-master"
    with subprocess.Popen(  # noqa: S603 - Dovecot's own program
        [_program("dovecot"), "-F", "-c", str(main)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:
        try:
            end = time.monotonic() + _START_SECONDS
            while not path.is_socket():
                if process.poll() is not None or time.monotonic() > end:
                    raise MailmapdError(
                        f"a private Dovecot does not start: {_said(process, folder)}"
                    )
                time.sleep(0.05)
            yield path
        finally:
            process.terminate()


def _said(process: subprocess.Popen[bytes], folder: Path) -> str:
    """Return the last line that Dovecot has printed or logged."""
    process.terminate()
    printed = b"" if process.stdout is None else process.stdout.read()
    log = folder / "log"
    text = (printed + (log.read_bytes() if log.exists() else b"")).decode(errors="replace")
    return text.strip().rpartition("\n")[2]


def shown_answer(answer: AuthAnswer | None) -> str:
    """Return an answer as people read it, without what may be a secret."""
    match answer:
        case None:
            return "is not listed"
        case "unknown":
            return "there is no such user"
        case "failed":
            return "temporary failure"
        case fields:
            return " ".join(_shown(field.decode("utf-8", "backslashreplace")) for field in fields)


def _shown(text: str) -> str:
    name = text.partition("=")[0]
    return f"{name}=(hidden)" if _SECRET.search(name) else text
