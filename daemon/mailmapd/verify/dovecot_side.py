"""Dovecot's side of verify: every user through the old SQL settings and through mailmapd, with a real Dovecot.

Two private Dovecots are started, one after the other, in a folder of their own and without any
listener for mail. What they say of a user (userdb) and of a login (passdb, without its password)
must be the same. Both work as the installed one in what it does to user names.

    2.3   driver = sql with the file (dovecot-sql.conf.ext), and driver = dict with the running mailmapd
    2.4   the file (sql_driver, mysql { }, passdb sql { } …), and the Lua script with the running mailmapd

Only what the dict has is compared: a file's user_query that Dovecot does not use, beside a static
userdb, is none of it. Users whom no query lists are those that the database's rows are about.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from mailmapd.config.files import path_beside
from mailmapd.config.schema import Config
from mailmapd.errors import ConfigError, Fault, MailmapdError
from mailmapd.formats.dovecot_sql import text_of
from mailmapd.formats.dovecot_sql_24 import is_of_24
from mailmapd.formats.dovecot_sql_conf import read_dovecot_sql_conf
from mailmapd.plan.dict_plan import DictPlan, plan_dicts
from mailmapd.snippets.dovecot import dict_sections_23, lua_sections_24
from mailmapd.snippets.shipped import shipped
from mailmapd.verify.auth_master import AuthAnswer, AuthMaster
from mailmapd.verify.user_names import names_of_users

_SYSTEM_PATH = "/usr/sbin:/usr/local/sbin:/usr/bin:/bin:/sbin"
_SECRET = re.compile("pass|secret|token|private|hash", re.IGNORECASE)
_START_SECONDS = 20.0
_LOG_SECONDS = 1.0  # a process of Dovecot's own writes the log, later than the answer comes
_ABOUT_NAMES = ("auth_username_format", "auth_username_chars", "auth_username_translation")
"""Settings that change user names before a database is asked; beside them is the domain of names without one."""

_SETTINGS = """\
base_dir = {folder}/run
state_dir = {folder}/state
log_path = {folder}/log
protocols =
ssl = no
first_valid_uid = 0
auth_cache_size = 0
service auth {
  unix_listener auth-master {
    mode = 0600
  }
}
"""

_SETTINGS_24 = "dovecot_config_version = {version}\ndovecot_storage_version = {version}\n"

_NO_PASSDB = {
    False: "passdb {\n  driver = static\n  args = nopassword=yes\n}\n",
    True: "passdb static {\n  fields {\n    nopassword = yes\n  }\n}\n",
}
"""A passdb for a Dovecot of 2.3 or (true) 2.4 that has none of its own, and would not start without."""

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


def compare_dovecot(
    config: Config,
    file: Path,
    limit: int = 0,
    *,
    dict_name: str | None = None,
    system_path: str = _SYSTEM_PATH,
) -> DovecotResult:
    """Compare the first `limit` users (0: all) of the file with a dict, which is named where there are several.

    Dovecot's programs are those of `system_path`. Raises ConfigError, and MailmapdError when a Dovecot fails.
    """
    name = dict_of(config, file, dict_name)
    plan = plan_dicts(config)[name]
    installed = _Dovecot(system_path)
    modern = installed.version >= (2, 4)
    if is_of_24(text_of(file)) is not modern:
        raise MailmapdError(
            f"{file} is of Dovecot {'2.3' if modern else '2.4'}, and the one here is {installed.text}"
        )
    with tempfile.TemporaryDirectory(prefix="mailmapd-verify-") as text:
        folder = Path(text)
        folder.chmod(0o755)  # auth workers are Dovecot's own user
        if modern:
            before = f"!include {file.absolute()}\n"
            sections = lua_sections_24(config, name, str(folder))
            script = shipped("configs/dovecot/2.4/mailmapd.lua").read_text()
            (folder / "mailmapd.lua").write_text(script)
        else:
            before = _old_sections(file, plan)
            extra, sections = dict_sections_23(config, name, str(folder))
            (folder / f"mailmapd-{name}.conf.ext").write_text(extra)
        common = _NO_PASSDB[modern] if plan.passdb is None else ""
        names = _names(config, plan)
        old = installed.answers(folder / "old", before + common, plan, names, limit)
        new = installed.answers(folder / "new", sections + common, plan, names, limit)
    result = DovecotResult(users=len({user for _, user in old}))
    for question in {**old, **new}:
        one, other = old.get(question), new.get(question)
        result.found += isinstance(one, tuple)
        result.failed += one == "failed"
        if one != other:
            result.differences.append((question, one, other))
    return result


def dict_of(config: Config, file: Path, wanted: str | None = None) -> str:
    """Return the dict that is compared with a file: the one that is named, that uses the file, or that is alone.

    Raises ConfigError with the names that there are.
    """
    names = ", ".join(config.dicts)
    if not config.dicts:
        problem, remedy = "there is no dict", "add Dovecot's queries: mailmapd import --dovecot-sql"
    elif wanted is not None:
        if wanted in config.dicts:
            return wanted
        problem, remedy = f'there is no dict "{wanted}"', f"the dicts are: {names}"
    else:
        using = [
            name
            for name, section in config.dicts.items()
            if section.dovecot_sql is not None
            and path_beside(config.file, section.dovecot_sql) == file.absolute()
        ]
        candidates = using or list(config.dicts)
        if len(candidates) == 1:
            return candidates[0]
        problem = f"several dicts may be meant: {', '.join(candidates)}"
        remedy = "say which one is compared with the file: --dict NAME"
    raise ConfigError([Fault(config.file, "dict", problem, remedy)])


def _names(config: Config, plan: DictPlan) -> list[bytes] | None:
    """Return the names of a dict that lists none, None when it does."""
    table = plan.passdb or plan.userdb
    if table is None or (plan.userdb is not None and plan.iterate is not None):
        return None
    return asyncio.run(names_of_users(config, table))


def _old_sections(file: Path, plan: DictPlan) -> str:
    conf = read_dovecot_sql_conf(file)
    section = f"{{\n  driver = sql\n  args = {file.absolute()}\n}}\n"
    passdb = f"passdb {section}" if plan.passdb and conf.password_query is not None else ""
    return passdb + (f"userdb {section}" if plan.userdb and conf.user_query is not None else "")


class _Dovecot:
    """The installed Dovecot: `version` and its `text`, and instances of it that are asked of their users."""

    def __init__(self, system_path: str) -> None:
        self._system_path = system_path
        found = re.match(r"(\d+)\.(\d+)\.\d+", self._printed("dovecot", "--version"))
        if found is None:
            raise MailmapdError("dovecot --version does not tell its version")
        self.text = found[0]
        self.version = (int(found[1]), int(found[2]))
        domain = "auth_default_domain" if self.version >= (2, 4) else "auth_default_realm"
        about_names = self._printed("doveconf", *_ABOUT_NAMES, domain)
        versions = _SETTINGS_24.format(version=self.text) if self.version >= (2, 4) else ""
        self._settings = versions + _SETTINGS + about_names

    def answers(
        self, folder: Path, sections: str, plan: DictPlan, names: list[bytes] | None, limit: int
    ) -> dict[Kind, AuthAnswer]:
        """Return what a Dovecot with these sections says of its users, or of those whose `names` are told."""
        answers: dict[Kind, AuthAnswer] = {}
        with self._running(folder, sections) as path:
            try:
                master = AuthMaster(path)
            except MailmapdError as error:
                raise _with_log(error, folder) from error
            try:
                listed = master.users() if names is None else names
                users = sorted(set(listed))[: limit or None]
                if plan.userdb is not None:
                    found = master.lookups("USER", users)
                    answers |= zip((("user", user) for user in users), found, strict=True)
                if plan.passdb is not None:
                    found = master.lookups("PASS", users)
                    answers |= zip((("login", user) for user in users), found, strict=True)
            except MailmapdError as error:
                raise _with_log(error, folder) from error
            finally:
                master.close()
        return answers

    @contextmanager
    def _running(self, folder: Path, sections: str) -> Iterator[Path]:
        """Run a Dovecot, and give its auth-master socket."""
        for part in (folder, folder / "state"):
            part.mkdir()
        main = folder / "dovecot.conf"
        main.write_text(self._settings.replace("{folder}", str(folder)) + sections)
        path = folder / "run" / "auth-master"
        with subprocess.Popen(  # noqa: S603 - Dovecot's own program
            [self._program("dovecot"), "-F", "-c", str(main)],
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

    def _printed(self, name: str, *arguments: str) -> str:
        done = subprocess.run(  # noqa: S603 - Dovecot's own program
            [self._program(name), *arguments], capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise MailmapdError(f"{name} does not run: {done.stderr.strip() or done.returncode}")
        return done.stdout

    def _program(self, name: str) -> str:
        found = shutil.which(name, path=self._system_path)
        if found is None:
            raise MailmapdError(f"{name} is not installed here: run verify on the mail server")
        return found


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
