"""The table of parameters, compared with the Postfix that is installed here and with Debian 13's: their defaults, and
their programs themselves.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from mailmapd.importers.postfix.parameter import PRIVATE, Folding
from mailmapd.importers.postfix.parameters import PARAMETERS
from support.debian13 import Debian13
from support.postfix_settings import DAEMON_DIRECTORY
from support.process import program

pytestmark = pytest.mark.servers

_TABLE_LIKE = re.compile(
    r"_(maps?|checks|domains|filter|networks|clients|access_list|hosts|restrictions|users|policy|lookup)$"
    r"|_(destinations|interfaces|exceptions|exclusions|commands|per_site|actions)$|^mydestination$"
)
"""What parameters are called that may name tables."""

_NO_TABLES = {
    # characters, programs, numbers, words, addresses and tables that Postfix writes itself
    *(
        "command_expansion_filter",
        "execution_directory_expansion_filter",
        "forward_expansion_filter",
    ),
    *("postscreen_expansion_filter", "smtpd_expansion_filter", "verp_delimiter_filter"),
    *("content_filter", "smtpd_proxy_filter", "inet_interfaces", "proxy_interfaces"),
    *("allow_mail_to_commands", "postmulti_control_commands", "postmulti_start_commands"),
    *("postmulti_stop_commands", "smtp_tls_dane_insecure_mx_policy", "maps_rbl_domains"),
    *("masquerade_domains", "broken_sasl_auth_clients", "proxy_read_maps", "proxy_write_maps"),
    *("lmtp_host_lookup", "smtp_host_lookup", "smtpd_peername_lookup", "require_home_directory"),
    *("disable_dns_lookups", "lmtp_tls_dane_insecure_mx_policy", "address_verify_map"),
    *("postscreen_cache_map", "smtpd_relay_before_recipient_restrictions"),
    *("lmtp_tls_force_insecure_host_tlsa_lookup", "smtp_tls_force_insecure_host_tlsa_lookup"),
}

# Read by the library for whoever asks, under whatever program's name
_IN_LIBRARIES = {
    *("mydestination", "fast_flush_domains", "debug_peer_list", "default_delivery_status_filter"),
    *("tls_server_sni_maps", "mynetworks", "virtual_maps", "canonical_maps", "header_checks"),
    *("relay_domains", "transport_maps", "smtpd_reject_filter_maps", "tlsproxy_client_policy"),
    *("smtpd_client_connection_limit_exceptions",),
}


@dataclass(frozen=True)
class Version:
    """One version of Postfix: its parameters, and the root directory of its programs."""

    defaults: frozenset[str]
    root: Path

    def file(self, reader: str) -> Path:
        """Return the file of a program."""
        daemon = self.root / DAEMON_DIRECTORY.relative_to("/") / reader
        return daemon if daemon.exists() else self.root / program(reader, "postfix").lstrip("/")


@pytest.fixture(
    scope="module",
    params=[
        "installed",
        pytest.param("debian13", marks=[pytest.mark.root, pytest.mark.timeout(1800)]),
    ],
)
def postfix(request: pytest.FixtureRequest) -> Iterator[Version]:
    """The Postfix that is installed, and 3.10 of Debian 13."""
    if request.param == "installed":
        command = [program("postconf", "postfix"), "-d"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        yield Version(_names(done.stdout), Path("/"))
        return
    with Debian13() as system:
        yield Version(_names(system.run("postconf", "-d").stdout), system.folder)


def _names(printed: str) -> frozenset[str]:
    return frozenset(line.partition(" =")[0] for line in printed.splitlines())


def test_every_parameter_that_may_name_tables_is_known(postfix: Version) -> None:
    """A parameter of this Postfix with a name like those of tables is in the list, or is known to name none."""
    assert len(postfix.defaults) > 900
    new = (
        {name for name in postfix.defaults if _TABLE_LIKE.search(name)}
        - PARAMETERS.keys()
        - _NO_TABLES
    )
    assert not new, (
        f"new in this Postfix: {', '.join(sorted(new))}; say what it reads in parameters.py"
    )


def test_no_parameter_is_made_up(postfix: Version) -> None:
    """What this Postfix does not have is older or newer, and named here."""
    older = {
        *("virtual_maps", "tlsproxy_client_policy", "smtp_tls_per_site", "lmtp_tls_per_site"),
        *("tlsproxy_client_per_site", "smtpd_client_connection_limit_exceptions"),
        "postscreen_whitelist_interfaces",
    }
    newer = {
        *(
            "smtpd_reject_filter_maps",
            "smtpd_forbid_bare_newline_exclusions",
            "smtp_requiretls_policy",
        ),
        *("smtp_tls_loglevel_maps", "lmtp_tls_loglevel_maps", "smtpd_tls_loglevel_maps"),
        *("postscreen_tls_loglevel_maps", "use_srv_lookup", "smtpd_log_access_permit_actions"),
    }
    assert PARAMETERS.keys() - postfix.defaults <= older | newer


def test_a_parameters_readers_name_it(postfix: Version) -> None:
    """Each reader of a parameter has its name in its program file, and no program of users has it that is no reader.

    Those are left out that Postfix's library reads, and those that this Postfix does not have.
    """
    names = PARAMETERS.keys() & postfix.defaults - _IN_LIBRARIES
    assert len(names) > 100
    for name in sorted(names):
        _check_readers(postfix, name)


def _check_readers(postfix: Version, name: str) -> None:
    word = b"\0" + name.encode() + b"\0"
    for reader in PARAMETERS[name].readers:
        if name == "local_header_rewrite_clients" or reader == "lmtp":
            continue
        assert word in postfix.file(reader).read_bytes(), (name, reader)
    for reader in PRIVATE.keys() - set(PARAMETERS[name].readers):
        assert word not in postfix.file(reader).read_bytes(), (name, reader)


@pytest.mark.parametrize(
    ("folding", "names"),
    [
        (Folding.NONE, "header_checks body_checks smtp_header_checks lmtp_delivery_status_filter"),
        (Folding.NONE, "smtpd_reject_filter_maps postscreen_reject_footer_maps smtpd_milter_maps"),
        (
            Folding.ASCII,
            "tls_server_sni_maps relay_clientcerts smtpd_command_filter smtp_reply_filter",
        ),
        (Folding.UTF8, "mailbox_transport_maps fallback_transport_maps"),
        (Folding.UNICODE, "virtual_alias_maps relay_domains smtpd_recipient_restrictions"),
    ],
)
def test_flags_are_those_of_the_sources(folding: Folding, names: str) -> None:
    """Samples of each kind of flags, as the callers of maps_create(3) and dict_open(3) have them."""
    assert {PARAMETERS[name].folding for name in names.split()} == {folding}
