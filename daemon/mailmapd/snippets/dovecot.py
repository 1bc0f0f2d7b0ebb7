"""Dovecot's settings for a configuration: what to write into which of its files.

2.3 asks over the dict protocol, 2.4 with a Lua script over HTTP. Both keep verifying passwords
themselves. What the configuration does not say (a static userdb, the uid of all mail) is left to
the administrator, and the text says so.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import PurePath

from mailmapd.config.address import UnixAddress
from mailmapd.config.schema import Config, ListenAddress
from mailmapd.errors import ConfigError, Fault
from mailmapd.plan.dict_plan import DictPlan, PlannedTable, plan_dicts
from mailmapd.snippets.shipped import shipped
from mailmapd.template.dovecot_key import DictKey
from mailmapd.template.dovecot_query import DovecotQuery
from mailmapd.template.dovecot_variables import name_in_24

IDLE_MSECS = 20_000
"""Seconds for which Dovecot 2.3 keeps a connection that it does not use; its default of 0 opens one for every lookup.

It must be below 30 s: a first lookup on a connection leaves its request timeout of 30 s running,
and when that fires before the idle timeout has closed the connection, the auth-worker panics
(dict-client.c, client_dict_input_timeout; seen with 2.3.19, unchanged in 2.3.21).
"""

_DICT_SOCKET = '[{address = "unix:/run/mailmapd/dict", group = "dovecot"}]'
_LOOKUP_SOCKET = '{address = "unix:/run/mailmapd/lookup", group = "dovecot"}'
_FRESH = """\
# Asked after a mismatch only: the password has perhaps been changed. The first one is silent, so that the log has one
# line for each refused login."""
_CACHE_23 = """\
# mailmapd remembers. Dovecot's own auth cache would let an old password in for auth_cache_ttl, beside the new one.
auth_cache_size = 0
"""
_USERS_OWN = re.compile(r"\buserdb_(?:home|uid|gid|mail(?:_path|_location)?)\b")
_PREFETCH = "# The password query returns the user's fields too (userdb_…), which saves the second lookup of a login."
_NO_USERDB_23 = """\
# This dict has no userdb: keep your own section, such as
#userdb {
#  driver = static
#  args = uid=vmail gid=vmail home=/home/vmail/%d/%n
#}"""
_NO_USERDB_24 = """\
# This dict has no userdb: keep your own section, such as
#userdb static {
#  fields {
#    uid = vmail
#    gid = vmail
#    home = /home/vmail/%{user | domain}/%{user | username}
#  }
#}"""
_WEAK_SCHEMES = """\
# Dovecot 2.4 refuses MD5-CRYPT, PLAIN-MD5 and other weak schemes unless you allow them:
#auth_allow_weak_schemes = yes
"""
_SHARED_CACHE = """\
# Dovecot's own auth cache, in front of mailmapd, which has it forget what it forgets itself: a changed password counts
# at once. Names are told in lower case, as auth_username_format makes them by default.
auth_cache_size = 50M
auth_cache_ttl = 1 hour
auth_cache_negative_ttl = 1 hour
"""
_CACHE_24 = """\
# Dovecot's own auth cache, in front of mailmapd, for users (passwords are not kept there: use_cache = no).
# mailmapd drops an entry when it is flushed or expires; Dovecot's copy lives for these times on top.
auth_cache_size = 10M
auth_cache_ttl = 10s
auth_cache_negative_ttl = 5s
"""


def dovecot_23(config: Config, directory: str = "/etc/dovecot") -> str:
    """Return the settings of Dovecot 2.3 for every dict.

    Raises ConfigError when no dict is served over a UNIX socket.
    """
    socket = _socket(config, config.listen.dicts, "dict", _DICT_SOCKET)
    blocks = [_head("2.3", config)]
    for plan in _plans(config).values():
        blocks += [
            *_dict_settings(plan, socket, directory),
            *_fresh_settings(plan, socket, directory),
            *_sections_23(plan, directory, _master(config)),
        ]
    return "\n".join(blocks)


def dict_sections_23(config: Config, name: str, directory: str) -> tuple[str, str]:
    """Return the dict's own settings file and the passdb and userdb sections that name it, without what asks again.

    Raises ConfigError.
    """
    socket = _socket(config, config.listen.dicts, "dict", _DICT_SOCKET)
    plan = _plans(config)[name]
    section = f"{{\n  driver = dict\n  args = {_settings_path(plan, directory)}\n}}\n"
    passdb = "" if plan.passdb is None else f"passdb {section}"
    userdb = "" if plan.userdb is None else f"userdb {section}"
    return "\n".join(_dict_settings(plan, socket, directory)) + "\n", passdb + userdb


def lua_sections_24(config: Config, name: str, directory: str) -> str:
    """Return the passdb and userdb sections of 2.4 that ask a dict, without what asks again. Raises ConfigError."""
    socket = _lookup_socket(config)
    plan = _plans(config)[name]
    parts = (("passdb", plan.passdb), ("userdb", plan.userdb))
    return "".join(
        f"{kind} lua {_lua(plan, table, socket, directory)}\n"
        for kind, table in parts
        if table is not None
    )


def dovecot_24(config: Config, directory: str = "/etc/dovecot") -> str:
    """Return the settings of Dovecot 2.4 for every dict.

    Raises ConfigError when lookups are not served over a UNIX socket.
    """
    socket = _lookup_socket(config)
    blocks = [_head("2.4", config)]
    for number, plan in enumerate(_plans(config).values()):
        blocks += _sections_24(plan, socket, directory, master=_master(config), alone=number == 0)
    return "\n".join(blocks)


def _socket(config: Config, entries: tuple[ListenAddress, ...], key: str, example: str) -> str:
    for entry in entries:
        if isinstance(entry.address, UnixAddress):
            return entry.address.path
    raise ConfigError(
        [
            Fault(
                config.file,
                f"listen.{key}",
                "has no UNIX socket, which is where Dovecot asks",
                f"write {key} = {example}",
            )
        ]
    )


def _lookup_socket(config: Config) -> str:
    entry = config.listen.lookup_http
    entries = () if entry is None else (entry,)
    return _socket(config, entries, "lookup_http", _LOOKUP_SOCKET)


def _plans(config: Config) -> dict[str, DictPlan]:
    plans = plan_dicts(config)
    if not plans:
        raise ConfigError(
            [
                Fault(
                    config.file,
                    "dict",
                    "is missing",
                    "add a [dict.auth] section with passdb, userdb or dovecot_sql",
                )
            ]
        )
    return plans


def _head(version: str, config: Config) -> str:
    return (
        f"# Dovecot {version} with mailmapd, for {config.file}. Lines of ---- name the file "
        "that the settings below them belong into.\n"
    )


def _file(path: str) -> str:
    return f"# ---- {path} ----"


def _dict_settings(plan: DictPlan, socket: str, directory: str) -> Iterator[str]:
    yield _file(_settings_path(plan, directory)) + " (owner root, mode 0644: it holds no secret)"
    yield "# idle_msecs keeps the connection. Stay below 30000: above it, idle auth-workers of Dovecot 2.3 crash."
    yield from _uri(plan, socket)
    if plan.iterate is not None:
        yield "iterate_prefix = userdb/"
    elif plan.userdb is None:
        yield "iterate_disable = yes"
    else:
        yield "# There is no iterate query: `doveadm user '*'` and `doveadm -A` fail, instead of finding nobody."
    for use, table in (("passdb", plan.passdb), ("userdb", plan.userdb)):
        if table is not None:
            yield _key(use, table.key)
    yield ""


def _fresh_settings(plan: DictPlan, socket: str, directory: str) -> Iterator[str]:
    """Yield the settings file of the passdb that is asked after a mismatch."""
    if plan.passdb is None:
        return
    yield _file(_settings_path(plan, directory, fresh=True)) + " (owner root, mode 0644)"
    yield from _uri(plan, socket)
    yield _key("passdb", plan.passdb.key.after_mismatch)
    yield ""


def _uri(plan: DictPlan, socket: str) -> Iterator[str]:
    yield f"uri = proxy:idle_msecs={IDLE_MSECS}:{socket}:{plan.name}"
    yield f"default_pass_scheme = {plan.default_scheme}"


def _key(use: str, key: DictKey) -> str:
    return f"key {use} {{\n  key = {key.template}\n  format = json\n}}\n{use}_objects = {use}"


def _settings_path(plan: DictPlan, directory: str, *, fresh: bool = False) -> str:
    return f"{directory}/mailmapd-{plan.name}{'-fresh' if fresh else ''}.conf.ext"


def _master_socket(name: str, directory: str) -> Iterator[str]:
    """Yield the socket by which mailmapd has Dovecot's auth cache forget."""
    yield _file(f"{directory}/conf.d/10-master.conf")
    yield (
        "# Whoever may open it may ask for every password hash: mailmapd's account, which has them anyway, and root.\n"
        f"service auth {{\n  unix_listener {name} {{\n    user = mailmapd\n    mode = 0600\n  }}\n}}\n"
    )


def _master(config: Config) -> str:
    """Return the name of the socket of [dovecot] auth_master, or an empty text."""
    if config.dovecot is None or not isinstance(config.dovecot.auth_master, UnixAddress):
        return ""
    return PurePath(config.dovecot.auth_master.path).name


def _sections_23(plan: DictPlan, directory: str, master: str) -> Iterator[str]:
    section = f"{{\n  driver = dict\n  args = {_settings_path(plan, directory)}\n}}"
    yield _file(f"{directory}/conf.d/10-auth.conf") + " (instead of its !include auth-….conf.ext)"
    if plan.passdb is not None:
        fresh = _settings_path(plan, directory, fresh=True)
        yield f"passdb {section[:-2]}\n  auth_verbose = no\n}}"
        yield f"{_FRESH}\npassdb {{\n  driver = dict\n  args = {fresh}\n  skip = authenticated\n}}"
        if _prefetches(plan.passdb):
            yield f"{_PREFETCH}\nuserdb {{\n  driver = prefetch\n}}"
    if plan.userdb is not None:
        yield f"userdb {section}"
    else:
        yield _NO_USERDB_23
    if master:
        yield _SHARED_CACHE
        yield from _master_socket(master, directory)
    else:
        yield _CACHE_23


def _sections_24(
    plan: DictPlan, socket: str, directory: str, *, master: str, alone: bool = True
) -> Iterator[str]:
    """Yield the sections of a dict. Only the first one's are called ``lua``: those of one name would become one."""
    name = "lua" if alone else plan.name
    driver = [] if alone else ["driver = lua"]
    yield "# The script that asks (Debian: apt-get install dovecot-auth-lua):"
    script = shipped("configs/dovecot/2.4/mailmapd.lua")
    yield f"#   install -m 644 {script} {directory}/"
    yield _file(f"{directory}/conf.d/10-auth.conf") + " (instead of its !include auth-….conf.ext)"
    if plan.passdb is not None:
        kept = [] if master else ["use_cache = no"]
        first = [*driver, *kept, "auth_verbose = no"]
        fresh = ["driver = lua", "use_cache = no", "skip = authenticated"]
        yield f"passdb {name} {_lua(plan, plan.passdb, socket, directory, first)}"
        yield (
            f"{_FRESH}\npassdb {plan.name}-fresh "
            f"{_lua(plan, plan.passdb, socket, directory, fresh, fresh=True)}"
        )
        if _prefetches(plan.passdb):
            yield f"{_PREFETCH}\nuserdb prefetch {{\n}}"
    if plan.userdb is not None:
        yield f"userdb {name} {_lua(plan, plan.userdb, socket, directory, driver)}"
    else:
        yield _NO_USERDB_24
    if master:
        yield _SHARED_CACHE
        yield from _master_socket(master, directory)
    else:
        yield _CACHE_24
    yield _WEAK_SCHEMES


def _lua(
    plan: DictPlan,
    table: PlannedTable,
    socket: str,
    directory: str,
    others: Sequence[str] = (),
    *,
    fresh: bool = False,
) -> str:
    settings = {"socket": socket, "dict": plan.name, "variables": " ".join(_variables(table))}
    if fresh:
        settings["fresh"] = "yes"
    own = "".join(f"    {name} = {value}\n" for name, value in settings.items())
    lines = "".join(f"  {line}\n" for line in others)
    return f"{{\n{lines}  lua_file = {directory}/mailmapd.lua\n  lua_settings {{\n{own}  }}\n}}"


def _variables(table: PlannedTable) -> list[str]:
    """Return the variables that a table's query needs, by their names in 2.4; the user is always asked for."""
    if not isinstance(table.definition.query, DovecotQuery):
        return ["user"]
    others = sorted(table.definition.query.sources - {"user"})
    return ["user", *(name_in_24(name) for name in others)]


def _prefetches(table: PlannedTable) -> bool:
    """Return whether a password query has what a user needs; a limit alone is added to the other userdb's fields."""
    return _USERS_OWN.search(table.text) is not None
