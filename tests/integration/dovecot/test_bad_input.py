"""What a client or a row should not hold gets a clear answer, and Dovecot's auth-worker lives on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from support.clients import Client
from support.dovecot import Dovecot, LookupFailed, Verdict

from .conftest import Mail

pytestmark = [pytest.mark.servers, pytest.mark.root]

HELLO = b"H3\t2\t0\t\tauth\n"


@contextmanager
def client(mail: Mail, hello: bytes = HELLO) -> Iterator[Client]:
    """A bare connection to the dict listener that has said hello."""
    with Client(mail.daemon.connect("dict")) as connection:
        connection.send(hello)
        yield connection


@pytest.fixture(autouse=True)
def workers_live(mail: Mail) -> Iterator[None]:
    """Fail when a process of Dovecot crashed during the test."""
    yield
    assert "killed with signal" not in mail.dovecot.text()
    assert "Panic" not in mail.dovecot.text()


@pytest.mark.parametrize(
    "user",
    [
        "o'hara@example.com",
        'quo"te@example.com',
        "back\\slash@example.com",
        "per%cent%u@example.com",
        "a/b/c@example.com",
        "é" * 400,
    ],
)
def test_odd_user_names(mail: Mail, user: str) -> None:
    """A user name with quotes, slashes or percent signs is found when it exists and unknown when it does not."""
    assert mail.dovecot.user(user) is None
    assert mail.dovecot.auth_test(user, "pw") is Verdict.REFUSED
    mail.add(f"is-{user}", "{PLAIN}pw")
    assert mail.dovecot.auth_test(f"is-{user}", "pw") is Verdict.ACCEPTED
    fields = mail.dovecot.user(f"is-{user}")
    assert fields is not None
    assert fields["home"] == "/srv/mail"


@pytest.mark.parametrize("user", ["tab\there@example.com", "é" * 2048])
def test_user_names_for_passdb_only(mail: Mail, user: str) -> None:
    """Names with a tab or of 4 KiB, which `doveadm user` itself cannot ask for, log in or are refused as any other."""
    assert mail.dovecot.auth_test(user, "pw") is Verdict.REFUSED
    mail.add(f"is-{user}", "{PLAIN}pw")
    assert mail.dovecot.auth_test(f"is-{user}", "pw") is Verdict.ACCEPTED


def test_user_name_that_is_sql(mail: Mail) -> None:
    """A user name that tries to be SQL is just an unknown user."""
    for user in ("' OR '1'='1", "x' UNION SELECT 'admin','{PLAIN}pw' -- ", "\\' OR 1=1 -- "):
        assert mail.dovecot.auth_test(user, "pw") is Verdict.REFUSED


@pytest.mark.parametrize(
    "value",
    [
        b'quote " back\\slash',
        b"control \x01\x02\x1f\x7f",
        b"l1\nl2\ttab\rcr",
        "é😀".encode(),
        b'{"a": [1]}',
        b"caf\xe9",
    ],
)
def test_odd_values(mail: Mail, value: bytes) -> None:
    """A value of any bytes but NUL reaches Dovecot as it is."""
    user = f"value-{value.hex()}@example.com"
    mail.add(user, "{PLAIN}pw", extra=value)
    assert mail.dovecot.doveadm_bytes("user", "-f", "extra", user) == value + b"\n"


@pytest.mark.parametrize(("name", "extra"), [("nul", b"a\0b"), ("long", b"x" * 65000)])
def test_values_dovecot_cannot_take(mail: Mail, name: str, extra: bytes) -> None:
    """A value with NUL or longer than a reply is a temporary failure of that user alone, with a log
    line without the value.
    """
    mail.add(f"{name}@example.com", "{PLAIN}pw", extra=extra)
    with pytest.raises(LookupFailed):
        mail.dovecot.user(f"{name}@example.com")
    assert mail.dovecot.auth_test(f"{name}@example.com", "pw") is Verdict.ACCEPTED


def test_two_rows(mail: Mail) -> None:
    """Two rows for one user are a temporary failure, not a pick."""
    mail.add("twin@example.com", "{PLAIN}one")
    mail.add("twin@example.com", "{PLAIN}two")
    assert mail.dovecot.auth_test("twin@example.com", "one") is Verdict.FAILED
    with pytest.raises(LookupFailed):
        mail.dovecot.user("twin@example.com")
    assert "more than one row for one user" in mail.daemon.text()


@pytest.mark.parametrize("hello", [b"H9\t0\t0\t\tauth\n", b"Lshared/passdb/x\tx\n", b"H\n"])
def test_bad_hello_closes(mail: Mail, hello: bytes) -> None:
    """An unknown protocol version, or no hello at all, closes the connection with a line in the log."""
    with client(mail, hello) as connection, suppress(ConnectionResetError):
        assert connection.stream.read() == b""
    assert "protocol error" in mail.daemon.text()


@pytest.mark.parametrize(
    ("command", "reply"),
    [
        (b"Lpriv/quota/storage\tx\n", b"Fdict auth has the keys"),
        (b"Lshared/other/x\tx\n", b"Fdict auth has the keys"),
        (b"Lshared/passdb/\t\n", b"Fpassdb: the key does not fit"),
        (b"Lshared/passdb/a\x010b\ta\x010b\n", b"Fpassdb: the key does not fit"),
        (b"I0\t0\tshared/passdb/\t\n", b"Fdict auth lists"),
        (b"I0\t0\tpriv/\t\n", b"Fdict auth lists"),
        (b"B1\tx\nS1\tpriv/x\ty\nC1\n", b"F1\tthis dict is read only"),
        (b"Lshared/userdb/nobody\tnobody\n", b"N\n"),
    ],
)
def test_commands(mail: Mail, command: bytes, reply: bytes) -> None:
    """A key outside every namespace, a listing without a query and a write get a failure that says why."""
    with client(mail) as connection:
        connection.send(command)
        assert connection.stream.readline().startswith(reply)


def test_unknown_dict_is_in_dovecots_log(mail: Mail, short_path: Path) -> None:
    """A dict name that mailmapd does not have is a temporary failure, and Dovecot's own log says why."""
    settings = short_path / "dict.conf.ext"
    uri = f"proxy:{mail.daemon.directory}/dict:nosuch"
    keys = "".join(
        f"key {kind} {{\n  key = {kind}/%u\n  format = json\n}}\n{kind}_objects = {kind}\n"
        for kind in ("passdb", "userdb")
    )
    settings.write_text(f"uri = {uri}\n{keys}")
    section = f"{{\n  driver = dict\n  args = {settings}\n}}\n"
    with Dovecot(short_path, f"passdb {section}userdb {section}") as dovecot:
        assert dovecot.auth_test("alice@example.com", "secret") is Verdict.FAILED
        with pytest.raises(LookupFailed):
            dovecot.user("alice@example.com")
        assert "mailmapd has no dict nosuch; its dicts are: auth" in dovecot.text()
