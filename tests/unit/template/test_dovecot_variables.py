from __future__ import annotations

import re

import pytest

from mailmapd.errors import TemplateError
from mailmapd.template.dovecot_variables import parse_variables

VALUES = {
    "user": b"First.Last@Sub.Example.ORG",
    "service": b"imap",
    "secured": b"TLS",
    "lip": b"192.0.2.1",
    "lport": b"143",
    "login_user": b"master@example.com",
    "hostname": b"mx1",
}


def expand(template: str, values: dict[str, bytes] | None = None) -> bytes:
    parts = [
        part.encode() if isinstance(part, str) else part.value(VALUES if values is None else values)
        for part in parse_variables(template)
    ]
    return b"".join(parts)


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("plain", b"plain"),
        ("%u", b"First.Last@Sub.Example.ORG"),
        ("%{user}", b"First.Last@Sub.Example.ORG"),
        ("%n at %d", b"First.Last at Sub.Example.ORG"),
        ("%{username}@%{domain}", b"First.Last@Sub.Example.ORG"),
        ("%s%c%l%a", b"imapTLS192.0.2.1143"),
        (
            "%{service} %{secured} %{lip} %{local_ip} %{lport} %{local_port}",
            b"imap TLS 192.0.2.1 192.0.2.1 143 143",
        ),
        (
            "%{login_user} %{login_username} %{login_domain}",
            b"master@example.com master example.com",
        ),
        ("%{hostname}", b"mx1"),
        ("[%r%m%k%h%{local_name}]", b"[]"),
        ("LIKE '%%x%%'", b"LIKE '%x%'"),
        ("100%", b"100"),
        ("%Lu %Un %L{domain}", b"first.last@sub.example.org FIRST.LAST sub.example.org"),
        ("%Ls%Lc", b"imaptls"),
        ("%1n %1.2n %-2n", b"F ir Fi"),
        ("%2.3Ln", b"rst"),
        ("%-3.2d", b"OR"),
        ("%0.-3n", b"First.L"),
        ("%99n|%-99.1n|%99.1n", b"First.Last|F|"),
        ("%06a|%02a", b"000143|143"),
        ("%Rs", b"pami"),
        ("%Dd", b"Sub,dc=Example,dc=ORG"),
        ("%Xa", b"8f"),
        ("%Xs", b"0"),
        ("%Ms", b"b2a4d1002579716e40261daba3be0fc7"),
        ("%ULRs", b"pami"),
    ],
)
def test_expansion(template: str, text: bytes) -> None:
    """A template expands as Dovecot expands it."""
    assert expand(template) == text


@pytest.mark.parametrize(
    ("user", "template", "text"),
    [
        (b"plain", "%n|%d", b"plain|"),
        (b"a@b@c", "%n|%d|%{domain_first}|%{domain_last}", b"a|b@c|b|c"),
        (b"", "%n|%d|%{domain_last}", b"||"),
        (b"o'brien\\", "%Eu", b"o\\'brien\\\\"),
        (b"end \t", "%Tu|", b"end|"),
        ("é@x".encode(), "%Lu", "é@x".encode()),
        ("É@x".encode(), "%Lu", "É@x".encode()),
        (b"a/b", "%u", b"a/b"),
    ],
)
def test_user_parts(user: bytes, template: str, text: bytes) -> None:
    """The parts of a user name are cut where Dovecot cuts them; letters outside ASCII keep their case."""
    assert expand(template, {"user": user}) == text


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("%Hu", b"cabce62"),
        ("%2.256Hu", b"62"),
        ("%Nu", b"c50ed3d0"),
        ("%2.16Nu", b"00"),
        ("%8.256Nu", b"000000d0"),
    ],
)
def test_hashes(template: str, text: bytes) -> None:
    """%H and %N hash into width buckets and pad to offset digits."""
    assert expand(template, {"user": b"testuser"}) == text


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("'%w'", "%w is the password in plain"),
        ("'%{password}'", "%{password} is the password in plain"),
        ("%{passdb:x}", "%{passdb:x} is a field of an earlier passdb"),
        ("%{userdb:x:y}", "earlier userdb"),
        ("%{if;%s;eq;imap;1;0}", "%{if;%s;eq;imap;1;0} is a condition"),
        ("%{env:HOME}", "environment"),
        ("%{sha256:user}", "Use SHA2"),
        ("%!", "%! is a number"),
        ("LIKE '%x'", "%x is not a variable of Dovecot's auth"),
        ("%{nosuch}", "%{nosuch} is not a variable"),
        ("%{u}", "%{u} is not a variable"),
        ("%U'", "%' is not a variable"),
    ],
)
def test_refused(template: str, message: str) -> None:
    """What cannot be expanded or cached is refused, named as written and with the reason."""
    with pytest.raises(TemplateError, match=re.escape(message)):
        expand(template)


@pytest.mark.parametrize(
    "written", ["%09999999u", "%99999999.7Nu", "%9999999999u", "%.9999999999u"]
)
def test_widths_without_measure(written: str) -> None:
    """A width that would fill memory is refused."""
    with pytest.raises(TemplateError, match="more than"):
        list(parse_variables(written))
