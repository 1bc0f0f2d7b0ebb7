"""Any bytes as a dovecot-sql.conf.ext: settings or faults.

Every query in it compiles or is refused; values are those of the login.
"""

from __future__ import annotations

from mailmapd.errors import ConfigError, DataError, TemplateError
from mailmapd.formats.dovecot_sql_conf import read_dovecot_sql_conf
from mailmapd.template.dovecot_query import DovecotQuery
from support.scratch_file import ScratchFile

SEEDS = (
    (
        b"driver = mysql\nconnect = host=/run/mysqld/mysqld.sock dbname=mail user=mail "
        b"password=x\ndefault_pass_scheme = CRYPT\n"
        b"password_query = SELECT username AS user, password FROM mailbox WHERE username = '%u' AND active = '1'\n"
        b"user_query = SELECT '/var/vmail/%d/%n' AS home, \\\n 5000 AS uid FROM mailbox WHERE "
        b"username = '%Lu' AND enable%Ls%Lc = 1\n"
        b"iterate_query = SELECT username AS user FROM mailbox\n"
    ),
    b'driver = sqlite\nconnect = /var/lib/mail.sqlite\npassword_query = "SELECT \'a \\"b\\"\' AS password"  # note\n',
    (
        b"driver = mysql\nconnect = host=db1 host=db2 port=3307 "
        b"ssl_verify_server_cert=no\nuser_query = SELECT %5.3u, %{user}, %%, %w\n"
    ),
    b"!include other.conf\n!include_try *\nconnect\n",
    b"!include_try \0 = x\n",
)
TOKENS = (
    *(
        b"driver = mysql\n",
        b"connect = host=h\n",
        b"password_query = ",
        b"user_query = ",
        b"!include ",
    ),
    *(b"%u", b"%{user}", b"%Ln", b"\\\n", b" #"),
)
VALUES = dict.fromkeys(
    ("user", "username", "domain", "service", "lip", "rip", "local_name", "session"),
    b"Anna'+x@example.com",
)

_FILE = ScratchFile("dovecot-sql.conf.ext")


def check(data: bytes) -> None:
    if (
        b"/" in data.partition(b"!include")[2]
    ):  # nothing but the file's own folder: elsewhere are files that never end
        return
    try:
        conf = read_dovecot_sql_conf(_FILE.holding(data))
    except ConfigError as error:
        assert error.faults  # noqa: PT017 (no test: whoever raises it must say why)
        return
    for query in filter(None, (conf.password_query, conf.user_query, conf.iterate_query)):
        try:
            compiled = DovecotQuery.compile("t", query)
        except TemplateError:
            continue
        try:
            compiled.statement(compiled.sql_key(VALUES)).render(bytes)
        except DataError:
            continue
