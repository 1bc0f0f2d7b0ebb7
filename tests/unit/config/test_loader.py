from __future__ import annotations

import re
from pathlib import Path

import pytest

from mailmapd.config.address import TcpAddress, UnixAddress
from mailmapd.config.loader import load_config, parse_config
from mailmapd.config.schema import DEFAULT_CONTROL
from mailmapd.errors import ConfigError

TWICE = "put the keys of both into one section, or give one another name"
GOOD = """
[listen]
socketmap = ["unix:/run/mailmapd/socketmap", "127.0.0.1:2552"]
dict = [{address = "unix:/run/mailmapd/dict", group = "dovecot", mode = "0660", peers = ["dovecot"]}]
http = "127.0.0.1:9780"

[listen.tcp_table]
virtual_alias_maps = "[::1]:2553"

[database.mail]
driver = "mysql"
hosts = ["unix:/run/mysqld/mysqld.sock", "db2.example.net:3306"]
user = "mail"
password_file = "mail-db-password"
dbname = "virtual_email"
tls = {ca = "/etc/ssl/ca.pem", verify = true}

[table.alias]
database = "mail"
query = "SELECT destination FROM email_aliase WHERE aliase = '%s'"
[table.alias.cache]
ttl = "1m"

[map.virtual_alias_maps]
tables = ["alias"]
search = "address"
recipient_delimiter = "+"
propagate_unmatched_extensions = true

[cache]
ttl = "5m"
negative_ttl = 30
stale_ttl = "24h"
"""


def faults(text: str) -> list[str]:
    """Return what is said about a wrong configuration, one text per fault, without the file's name."""
    with pytest.raises(ConfigError) as caught:
        parse_config(text, "test.toml")
    assert all(fault.file == "test.toml" for fault in caught.value.faults)
    return [str(fault).removeprefix("test.toml: ") for fault in caught.value.faults]


def test_good() -> None:
    """A configuration as documented is read into values, with durations in seconds and parsed addresses."""
    config = parse_config(GOOD, "test.toml")
    assert [entry.address for entry in config.listen.socketmap] == [
        UnixAddress("/run/mailmapd/socketmap"),
        TcpAddress("127.0.0.1", 2552),
    ]
    assert config.listen.dicts[0].mode == 0o660
    assert config.listen.dicts[0].peers == ("dovecot",)
    assert config.listen.tcp_table["virtual_alias_maps"].address == TcpAddress("::1", 2553)
    assert config.databases["mail"].hosts == (
        "unix:/run/mysqld/mysqld.sock",
        "db2.example.net:3306",
    )
    assert (config.cache.ttl, config.cache.negative_ttl, config.cache.stale_ttl) == (
        300.0,
        30.0,
        86400.0,
    )
    assert config.tables["alias"].cache.over(config.cache).ttl == 60.0
    assert config.tables["alias"].cache.over(config.cache).stale_ttl == 86400.0


def test_password_not_shown() -> None:
    """A password in the configuration does not show when the configuration is printed."""
    config = parse_config(
        GOOD.replace('password_file = "mail-db-password"', 'password = "s3cr3t"'), "test.toml"
    )
    assert config.databases["mail"].password == "s3cr3t"
    assert "s3cr3t" not in repr(config)


def test_all_faults_at_once() -> None:
    """Every fault is reported in one go, each with its key and a remedy."""
    text = """
listne = 1
[listen]
socketmap = "unix:/run/x"
dict = [{address = "unix:/run/d", grop = "x"}]
[limits]
max_connections = 0
backlog = "many"
[database.a]
driver = "postgres"
pool_size = 0
[table.t]
querry = "SELECT 1"
[table.t.cache]
ttl = "5 parsecs"
[map.m]
tables = []
"""
    assert faults(text) == [
        'listen.socketmap: must be a list of addresses: write ["unix:/run/x"]',
        'listen.dict[0].grop: unknown key; did you mean "group"?',
        "limits.max_connections: must be > 0",
        "limits.backlog: must be a whole number, not a text in quotes",
        'database.a.driver: must be one of "mysql", "sqlite"',
        "database.a.pool_size: must be > 0",
        (
            'table.t.cache.ttl: "5 parsecs" is not a duration; write a number with ms, s, m, h, d or '
            'w, such as "30s" or "5m"'
        ),
        'table.t.querry: unknown key; did you mean "query"?',
        "map.m.tables: must not be empty",
        'listne: unknown key; did you mean "listen"?',
    ]


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        (
            'tables = ["alias"]',
            'tables = ["alais"]',
            'map.virtual_alias_maps.tables[0]: there is no table "alais"; did you mean "alias"?',
        ),
        (
            'tables = ["alias"]',
            'tables = ["alias", "alias"]',
            'map.virtual_alias_maps.tables[1]: table "alias" is listed twice; the second can never answer; remove it',
        ),
        (
            'database = "mail"',
            'database = "post"',
            'table.alias.database: there is no database "post"; add a [database.post] section',
        ),
        (
            'database = "mail"\n',
            "",
            "table.alias.database: is missing; name one of the [database.…] sections",
        ),
        (
            "127.0.0.1:2552",
            "0.0.0.0:2552",
            (
                "listen.socketmap[1]: 0.0.0.0:2552 can be reached from other machines; "
                "use 127.0.0.1, or set listen.allow_remote = true behind a firewall"
            ),
        ),
        (
            "127.0.0.1:2552",
            "127.0.0.1:9780",
            (
                "listen.http: 127.0.0.1:9780 is already used by listen.socketmap[1]; give each "
                "listener an address of its own"
            ),
        ),
        (
            "[::1]:2553",
            "::1",
            'listen.tcp_table.virtual_alias_maps: "::1" needs a numeric address, such as "127.0.0.1:1"',
        ),
        (
            "unix:/run/mailmapd/socketmap",
            "unix:socketmap",
            'listen.socketmap[0]: "unix:socketmap" needs an absolute path, such as "unix:/run/mailmapd/socketmap"',
        ),
        (
            '{address = "unix:/run/mailmapd/dict", group = "dovecot", mode = "0660", peers = ["dovecot"]}',
            '"127.0.0.1:2554"',
            (
                "listen.dict[0]: gives password hashes to every account that can connect over TCP; "
                'write {address = "unix:/run/mailmapd/dict", group = "dovecot"}'
            ),
        ),
        (
            "[listen]",
            '[listen]\nlookup_http = "[::1]:2554"',
            (
                "listen.lookup_http: gives password hashes to every account that can connect over TCP; "
                'write {address = "unix:/run/mailmapd/lookup", group = "dovecot"}'
            ),
        ),
        (
            'mode = "0660", peers = ["dovecot"]',
            'mode = "0662"',
            (
                "listen.dict[0]: mode 0662 gives password hashes to every account of this machine; "
                'write mode = "0660" and group = "dovecot", or name the peers'
            ),
        ),
        (
            "[listen]",
            '[listen]\nwebhook = {address = "unix:/run/mailmapd/webhook", mode = "0666"}',
            (
                "listen.webhook: mode 0666 lets every account of this machine have everything forgotten; "
                'write mode = "0660" and a group, name the peers, or set webhook_token_file'
            ),
        ),
        (
            'mode = "0660"',
            "mode = 432",
            'listen.dict[0].mode: must be an octal file mode in quotes, such as "0660"',
        ),
        (
            'password_file = "mail-db-password"',
            'password_file = "a"\npassword = "b"',
            "database.mail.password: password and password_file are both set; keep one of them",
        ),
        (
            'driver = "mysql"',
            'driver = "mysql"\npath = "/x"',
            "database.mail.path: means nothing with the mysql driver; remove it",
        ),
        (
            "[cache]",
            '[map.a]\ntables = ["alias"]\nhosted_domains = "a"\n[cache]',
            "map.a.hosted_domains: is a cycle: a → a; name a map of domains that has no hosted_domains itself",
        ),
        (
            "[cache]",
            "[dict.auth]\n[cache]",
            "dict.auth: asks nothing; set passdb, userdb, iterate or dovecot_sql",
        ),
        (
            "[cache]",
            '[dict.auth]\npassdb = "alis"\n[cache]',
            'dict.auth.passdb: there is no table "alis"; did you mean "alias"?',
        ),
        (
            'socketmap = ["unix:/run/mailmapd/socketmap"',
            'socketmap = ["/run/mailmapd/socketmap"',
            'listen.socketmap[0]: "/run/mailmapd/socketmap" is not an address; write "unix:/run/mailmapd/socketmap"',
        ),
        (
            'http = "127.0.0.1:9780"',
            'http = "9780"',
            'listen.http: "9780" is not an address; write "127.0.0.1:9780"',
        ),
        (
            'http = "127.0.0.1:9780"',
            "http = 9780",
            'listen.http: must be an address, not a port alone: write "127.0.0.1:9780"',
        ),
        (
            'tables = ["alias"]',
            'tables = "alias"',
            'map.virtual_alias_maps.tables: must be a list: write ["alias"]',
        ),
        (
            "[cache]",
            "[table.alias]\n[cache]",
            "line 30, column 13: the section [table.alias] is there twice, for the first time in line 18; "
            + TWICE,
        ),
    ],
)
def test_references(old: str, new: str, fault: str) -> None:
    """A name that does not exist, or keys that contradict each other, are named with their remedy."""
    assert old in GOOD
    assert faults(GOOD.replace(old, new)) == [fault]


def test_not_toml() -> None:
    """A syntax error names its line and column."""
    assert faults("[listen\n") == [
        "line 1, column 8: is not TOML: Expected ']' at the end of a table declaration"
    ]


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("[listen]\ncontrol = {address = 'unix:/c', mode = 0660}\n", "line 2, column 41"),
        ("[limits]\nbacklog = 0128\n", "line 2, column 12"),
    ],
)
def test_number_that_begins_with_0(text: str, where: str) -> None:
    """A number with a 0 in front is named as what it is, and what a mode looks like is said."""
    said = 'a number does not begin with 0; a mode is a text in quotes, such as "0660"'
    assert faults(text) == [f"{where}: {said}"]


def test_unreadable(tmp_path: Path) -> None:
    """A file that is not there is named, with what to check."""
    with pytest.raises(
        ConfigError,
        match=r"nothere\.toml: cannot be read: No such file or directory; check the path; `mailmapd import` writes",
    ):
        load_config(tmp_path / "nothere.toml")


def test_not_utf8(tmp_path: Path) -> None:
    """A file in another encoding is named, with the line of the first wrong byte."""
    path = tmp_path / "latin.toml"
    path.write_bytes(b"# a\n# \xe9\n")
    with pytest.raises(
        ConfigError, match=r"latin\.toml: line 2: is not UTF-8; save the file as UTF-8"
    ):
        load_config(path)


def test_byte_order_mark(tmp_path: Path) -> None:
    """The mark that some editors put before UTF-8 is no fault."""
    path = tmp_path / "marked.toml"
    path.write_bytes(b'\xef\xbb\xbf[listen]\nhttp = "127.0.0.1:9780"\n')
    assert load_config(path).listen.http is not None


@pytest.mark.parametrize(
    ("text", "problem", "remedy"),
    [
        (
            '[map.m]\ntables = ["t"]\n\n[map.m]\ntables = ["u"]\n',
            r"the section \[map.m\] is there twice, for the first time in line 1",
            TWICE,
        ),
        (
            '[log]\nlevel = "info"\nlevel = "debug"\n',
            "has a value already",
            "remove one of the two",
        ),
        ("[log]\nlevel = debug\n", "is not TOML", "texts stand in quotes"),
        (
            '[cache]\nttl = "5"\n',
            'cache.ttl: "5" is a duration without a unit',
            'write "5s", "5m" or "5h"',
        ),
        ('[cache]\nttl = "5 minutes"\n', "is not a duration", "write a number with ms, s, m"),
    ],
)
def test_slips_have_their_remedy(text: str, problem: str, remedy: str) -> None:
    """What people mistype most is named in their words, with what to write."""
    with pytest.raises(ConfigError) as caught:
        parse_config(text, "mailmapd.toml")
    [fault] = caught.value.faults
    assert re.search(problem, str(fault)), str(fault)
    assert remedy in str(fault)


def test_control_is_on_unless_it_is_false() -> None:
    """The control socket has its address by default, and none when the file says false."""
    assert parse_config("", "mailmapd.toml").listen.control == DEFAULT_CONTROL
    assert parse_config("[listen]\ncontrol = false\n", "mailmapd.toml").listen.control is None
