"""Any bytes as a mailmapd.toml: a plan, or faults that name the file; and never a password in them."""

from __future__ import annotations

from pathlib import Path

from mailmapd.config.loader import load_config
from mailmapd.errors import ConfigError, Fault
from mailmapd.plan.assembly import assemble, plan
from support.scratch_file import ScratchFile

ROOT = Path(__file__).parents[3]
SEEDS = (
    (ROOT / "configs" / "mailmapd.toml").read_bytes().replace(b"password_file = ", b"password = "),
    b"""[listen]
socketmap = ["127.0.0.1:2552", {address = "unix:/run/x", mode = "0660", peers = ["dovecot", "7"]}]
[listen.tcp_table]
m = "[::1]:2553"
[database.d]
driver = "sqlite"
path = "/nowhere"
[table.t]
database = "d"
query = "SELECT v FROM t WHERE k = '%s' AND d = '%d'"
result_format = "%s,%U"
domain = ["example.com", "!x"]
[table.t.cache]
ttl = "1.5s"
jitter = 0.5
[map.m]
tables = ["t"]
search = ["full", "noext", "at_domain"]
recipient_delimiter = "+-"
local_domains = ["a.b"]
""",
    (
        b'[database.d]\ndriver = "mysql"\nhosts = ["db:3306"]\nuser = "u"\npassword = '
        b'"hunter2hunter2"\nprefer = ["other"]\n'
    ),
    b"a = [[[[[[[[\n",
    b"[map]\nm = 1\n",
)
TOKENS = (
    *(
        b"[listen]\n",
        b"[cache]\n",
        b"[limits]\n",
        b"[database.d]\n",
        b"[table.t]\n",
        b"[map.m]\n",
        b"[dict.d]\n",
        b"[[map.m]]\n",
    ),
    *(
        b'search = "address"\n',
        b'"unix:/run/x"',
        b'"5m"',
        b"true",
        b"-1",
        b"1e400",
        b"nan",
        b"[]",
        b"{}",
        b'""',
        b"%s",
        b"%Z",
    ),
)
SECRET = b"hunter2hunter2"
FILES = (
    b"_file",
    b"postfix_cf",
    b"dovecot_sql",
    b"/dev",
    b"/proc",
)  # settings that read further files

_FILE = ScratchFile("mailmapd.toml")


def faults(data: bytes) -> tuple[Fault, ...]:
    try:
        config = load_config(_FILE.holding(data))
        if not any(name in data for name in FILES):
            assemble(plan(config))
    except ConfigError as error:
        assert error.faults  # noqa: PT017 (no test: whoever raises it must say why)
        return error.faults
    return ()


def check(data: bytes) -> None:
    found = faults(data)
    assert all(fault.file == str(_FILE.path) for fault in found)
    if data.count(SECRET) == 1 and b'password = "%b"' % SECRET in data:
        assert not any(
            SECRET.decode() in str(fault) for fault in found if fault.where.startswith("database.")
        )
