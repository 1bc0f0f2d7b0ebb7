"""master.cf's services and their options."""

from __future__ import annotations

import pytest

from mailmapd.errors import ConfigError
from mailmapd.formats.master_cf import parse_master_cf

TEXT = """\
# service type private unpriv chroot wakeup maxproc command
smtp      inet  n       -       y       -       -       smtpd
submission inet n       -       y       -       -       smtpd
  -o syslog_name=postfix/submission
  -o smtpd_sender_login_maps=proxy:mysql:/etc/postfix/login.cf
# a comment
  -o { smtpd_recipient_restrictions = check_recipient_access mysql:/etc/postfix/a.cf, permit }
  -vosmtpd_client_restrictions=$mua_client_restrictions -o smtpd_client_restrictions=reject
virtual   unix  -       n       n       -       -       virtual
maildrop  unix  -       n       n       -       -       pipe
  flags=DRXhu user=vmail argv=/usr/bin/maildrop -o nothing=here
"""


def test_services_and_options() -> None:
    """Services keep their columns; options are read in every form that master(5) allows, the last of equal ones."""
    services = {service.name: service for service in parse_master_cf(TEXT, "master.cf")}
    assert services["submission"].overrides == {
        "syslog_name": "postfix/submission",
        "smtpd_sender_login_maps": "proxy:mysql:/etc/postfix/login.cf",
        "smtpd_recipient_restrictions": "check_recipient_access mysql:/etc/postfix/a.cf, permit",
        "smtpd_client_restrictions": "reject",
    }
    assert services["submission"].line == 3
    assert (services["smtp"].chroot, services["virtual"].chroot) == (True, False)


def test_arguments_of_a_command_are_no_options() -> None:
    """What follows the first plain argument belongs to the command."""
    services = {service.name: service for service in parse_master_cf(TEXT, "master.cf")}
    assert services["maildrop"].overrides == {}


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("smtp inet n - y -", "line 1: a service has 8 columns"),
        ("smtp inet n - y - - smtpd -o x", '"-o x" has no "="'),
    ],
)
def test_broken_services_are_named(line: str, problem: str) -> None:
    """A line that Postfix would refuse is one fault with its number."""
    with pytest.raises(ConfigError, match=problem):
        list(parse_master_cf(line, "master.cf"))
