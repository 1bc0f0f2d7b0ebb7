from __future__ import annotations

import pytest

from mailmapd.config.loader import parse_config
from mailmapd.errors import ConfigError
from mailmapd.snippets.dovecot import dovecot_23, dovecot_24

LISTEN = '[listen]\ndict = ["unix:/run/mailmapd/dict"]\nlookup_http = "unix:/run/mailmapd/lookup"\n'
DATABASE = '[database.mail]\ndriver = "sqlite"\npath = "/m"\n'
TABLES = """
[table.p]
database = "mail"
dovecot_query = "SELECT password, home AS userdb_home FROM m WHERE u='%u' AND enable%Ls%Lc=1 AND ip='%r'"
[table.u]
database = "mail"
dovecot_query = "SELECT home FROM m WHERE u='%u'"
[table.i]
database = "mail"
dovecot_query = "SELECT u AS user FROM m"
"""
WHOLE = (
    LISTEN
    + DATABASE
    + TABLES
    + '[dict.auth]\npassdb = "p"\nuserdb = "u"\niterate = "i"\ndefault_pass_scheme = "BLF-CRYPT"\n'
)


def test_dovecot_23() -> None:
    """The settings for 2.3 keep the connection, carry every variable in the key, and prefetch what
    the password query returns.
    """
    text = dovecot_23(parse_config(WHOLE, "mailmapd.toml"))
    assert "uri = proxy:idle_msecs=20000:/run/mailmapd/dict:auth\n" in text
    assert (
        "key passdb {\n  key = passdb/%u/%Ls/%r/%Lc\n  format = json\n}\npassdb_objects = passdb\n"
        in text
    )
    assert "key userdb {\n  key = userdb/%u\n  format = json\n}\nuserdb_objects = userdb\n" in text
    assert "default_pass_scheme = BLF-CRYPT\niterate_prefix = userdb/\n" in text
    assert (
        "userdb {\n  driver = prefetch\n}\nuserdb {\n  driver = dict\n  args = /etc/dovecot/mailmapd-auth.conf.ext\n}"
        in text
    )
    assert "auth_cache_size = 0\n" in text
    assert "  key = passdb-fresh/%u/%Ls/%r/%Lc/%{orig_user}\n" in text
    first = "passdb {\n  driver = dict\n  args = /etc/dovecot/mailmapd-auth.conf.ext\n  auth_verbose = no\n}\n"
    fresh = "passdb {\n  driver = dict\n  args = /etc/dovecot/mailmapd-auth-fresh.conf.ext\n  skip = authenticated\n}\n"
    assert text.index(first) < text.index(fresh) < text.index("userdb {\n  driver = prefetch")


def test_dovecot_24() -> None:
    """The settings for 2.4 name the script, the socket and the variables by their names in 2.4."""
    text = dovecot_24(parse_config(WHOLE, "mailmapd.toml"))
    assert (
        "passdb lua {\n  use_cache = no\n  auth_verbose = no\n  lua_file = /etc/dovecot/mailmapd.lua\n  lua_settings {\n    socket = "
        "/run/mailmapd/lookup\n    dict = auth\n" in text
    )
    assert "    variables = user remote_ip secured protocol\n  }\n" in text
    assert "    variables = user remote_ip secured protocol\n    fresh = yes\n  }\n" in text
    assert "passdb auth-fresh {\n  driver = lua\n  use_cache = no\n  skip = authenticated\n" in text
    assert "userdb prefetch {\n}\nuserdb lua {" in text
    assert "    variables = user\n" in text
    assert "auth_cache_ttl = 10s\n" in text


def test_a_limit_alone_is_not_prefetched() -> None:
    """A password query that gives a limit but no home leaves home and uid to the other userdb, as Dovecot has it."""
    config = parse_config(WHOLE.replace("userdb_home", "userdb_quota_rule"), "mailmapd.toml")
    for snippet in (dovecot_23(config), dovecot_24(config)):
        assert "prefetch" not in snippet


def test_several_dicts() -> None:
    """Each dict has sections of its own in 2.4, where those of one name would become one."""
    more = '[dict.more]\npassdb = "p"\nuserdb = "u"\n'
    text = dovecot_24(parse_config(WHOLE + more, "mailmapd.toml"))
    for name in ("passdb lua", "passdb auth-fresh", "passdb more", "passdb more-fresh"):
        assert text.count(f"{name} {{\n") == 1
    assert text.count("userdb lua {\n") == text.count("userdb more {\n  driver = lua\n") == 1


def test_without_userdb() -> None:
    """A dict without userdb leaves the userdb to the administrator and lists nobody."""
    text = WHOLE.replace('userdb = "u"\niterate = "i"\n', "").replace("userdb_home", "home2")
    assert "iterate_disable = yes" in dovecot_23(parse_config(text, "f"))
    for snippet in (dovecot_23(parse_config(text, "f")), dovecot_24(parse_config(text, "f"))):
        assert "This dict has no userdb: keep your own section" in snippet
        assert "prefetch" not in snippet


def test_without_iterate() -> None:
    """A userdb without an iterate query does not let Dovecot take its users for an empty list."""
    text = dovecot_23(parse_config(WHOLE.replace('iterate = "i"\n', ""), "f"))
    assert "iterate_prefix" not in text
    assert "iterate_disable" not in text


@pytest.mark.parametrize(
    ("toml", "where"),
    [
        (
            WHOLE.replace("dict = [", "socketmap = [")
            .replace("lookup_http", "http")
            .replace('"unix:/run/mailmapd/lookup"', '"127.0.0.1:1"'),
            "listen",
        ),
        (LISTEN, "dict"),
    ],
)
def test_nothing_to_write(toml: str, where: str) -> None:
    """Without a dict, or a socket that Dovecot can reach, there is a fault that says what to write."""
    for snippet in (dovecot_23, dovecot_24):
        with pytest.raises(ConfigError) as caught:
            snippet(parse_config(toml, "f"))
        assert caught.value.faults[0].where.startswith(where)
