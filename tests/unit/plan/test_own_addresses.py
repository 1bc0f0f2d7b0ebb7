"""The addresses of this very host, compared with what the operating system says otherwise."""

from __future__ import annotations

import subprocess

import pytest

from mailmapd.config.loader import parse_config
from mailmapd.errors import ConfigError
from mailmapd.plan.assembly import plan
from mailmapd.plan.own_addresses import own_literals

CONFIG = """
[database.d]
driver = "sqlite"
path = "/x"
[table.t]
database = "d"
query = "SELECT '%s'"
[map.m]
tables = ["t"]
search = "address"
"""


def test_the_loopback_address_is_an_own_one() -> None:
    """All interfaces include the loopback, under ipv4 and under all."""
    assert "[127.0.0.1]" in own_literals(["ipv4"])
    assert set(own_literals(["ipv4"])) <= set(own_literals(["all"]))


def test_the_own_addresses_are_those_of_the_interfaces() -> None:
    """What the kernel's files say is what hostname(1) says of the other interfaces."""
    told = subprocess.run(["hostname", "-I"], capture_output=True, text=True, check=True).stdout
    literals = own_literals(["all"])
    for address in told.split():
        assert (f"[ipv6:{address}]" if ":" in address else f"[{address}]") in literals


def test_names_and_addresses_are_taken_as_inet_interfaces_has_them() -> None:
    """A literal stands for itself, and a host name for what it resolves to."""
    assert own_literals(["192.0.2.9", "[2001:db8::9]"]) == ["[192.0.2.9]", "[ipv6:2001:db8::9]"]
    assert "[127.0.0.1]" in own_literals(["localhost"])


def test_a_name_that_does_not_resolve_is_a_fault_of_its_map() -> None:
    """An unknown host name is named with the map, before anything is answered."""
    text = CONFIG + 'own_addresses = ["no-such-host.invalid"]\n'
    with pytest.raises(
        ConfigError, match=r"map\.m\.own_addresses: 'no-such-host.invalid' is no address"
    ):
        plan(parse_config(text, "/m.toml"))


def test_a_map_reads_the_addresses_when_it_is_compiled() -> None:
    """With own_addresses the literal of an interface is a local domain."""
    planned = plan(parse_config(CONFIG + 'own_addresses = ["ipv4"]\n', "/m.toml"))
    asked = [key.key for key in planned.searches["m"].keys(b"postmaster@[127.0.0.1]")]
    assert asked == [b"postmaster@[127.0.0.1]", b"postmaster", b"@[127.0.0.1]"]
