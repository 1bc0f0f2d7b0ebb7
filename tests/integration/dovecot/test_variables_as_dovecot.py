"""Variables expand as Dovecot's own expansion does, shown by the fields of a static userdb."""

from __future__ import annotations

from pathlib import Path

import pytest

from mailmapd.template.dovecot_variables import parse_variables
from support.dovecot import Dovecot

pytestmark = [pytest.mark.servers, pytest.mark.root]

TEMPLATES = (
    "%u %n %d %Lu %Ud %Rn %Mu %Hu %Nu %2.256Hn %8.256Nn %Dd %Xn %Tn",
    "%1n|%2.3n|%-2n|%-3.2n|%0.-3n|%.2n|%3.n|%99.2n|%-99.2n|%05n|%2.05n|%0.0n",
    "%{user}|%{username}|%{domain}|%L{username}|%2.3{domain}|%{domain_first}|%{domain_last}",
    "%s|%Us|%{service}|%l|%r|%a|%b|%{lip}|%{rip}|%{lport}|%{rport}|%{local_ip}|%{remote_ip}|%c|%k|%m",
    "%UUu|%ULn|%LUn|%RRn|%MMn|%HRn|%RHn",
)
USERS = (
    "First.Last@Sub.Example.ORG",
    "plain",
    "a@b@c",
    "x@",
    "1234@7",
    "zoë@exämple.com",
    "a/b@c",
    "o'neill\\x@y",
)
ABOUT = {
    "service": "imap",
    "lip": "192.0.2.1",
    "rip": "2001:db8::2",
    "lport": "143",
    "rport": "50123",
}


def _settings() -> str:
    fields = " ".join(
        f"t{number}={template.replace(' ', '_')}" for number, template in enumerate(TEMPLATES)
    )
    userdb = f"userdb {{\n  driver = static\n  args = uid=5000 gid=5000 home=/srv {fields}\n}}\n"
    return (
        f"auth_username_chars =\nauth_username_format =\npassdb {{\n  driver = static\n  args "
        f"= nopassword=y\n}}\n{userdb}"
    )


def test_as_dovecot(short_path: Path) -> None:
    """Every template gives what Dovecot gives, for every user name."""
    with Dovecot(short_path, _settings()) as dovecot:
        expanded = {user: dovecot.user(user, **ABOUT) for user in USERS}
    for user, fields in expanded.items():
        assert fields is not None
        values = {name: value.encode() for name, value in {**ABOUT, "user": user}.items()}
        for number, template in enumerate(TEMPLATES):
            parts = parse_variables(template.replace(" ", "_"))
            ours = b"".join(
                part.encode() if isinstance(part, str) else part.value(values) for part in parts
            )
            assert (template, ours.decode(errors="backslashreplace")) == (
                template,
                fields[f"t{number}"],
            )
