"""What Postfix does with each parameter that may name lookup tables: which keys it asks, and who else reads it.

Read in the sources of Postfix 3.7 to 3.12: maps_create(3), mail_addr_find(3), match_list(3) and their callers.

A table that Postfix takes for fixed strings (``mysql:``) is asked for every partial key, one after
the other over the whole list; one that it takes for patterns (``socketmap:``) only for the full
key. `Keys` says which of a parameter's keys are partial ones:

* EXACT: none. Postfix asks patterns, too, for every key it has.
* ADDRESS, TRANSPORT, ACCESS, HELO, DOMAIN: a search that mailmapd does for Postfix, under the same
  name as in mailmapd.toml.
* MIXED: several kinds of keys in one list; Postfix must go on asking key by key.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Keys(Enum):
    """The keys that Postfix asks for a parameter; the value is the `search` of a map that stands for it."""

    EXACT = "exact"
    ADDRESS = "address"
    TRANSPORT = "transport"
    ACCESS = "access"
    HELO = "helo"
    DOMAIN = "domain"
    MIXED = "mixed"


class Form(Enum):
    """How a parameter's value is written and walked."""

    MAPS = "maps"
    """Tables, asked key by key: one key in all of them, then the next key."""
    PATTERNS = "patterns"
    """Names, files and tables, asked one by one: all keys in one of them, then the next."""
    RESTRICTIONS = "restrictions"
    """smtpd(8) restrictions, some followed by a table."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """One main.cf parameter.

    `propagates` is its word in propagate_unmatched_extensions, `parent_style` its word in
    parent_domain_matches_subdomains. `refused_by` names the delivery agent that reads the
    parameter, too, and takes no tables from a network service.
    """

    name: str
    keys: Keys
    form: Form = Form.MAPS
    propagates: str = ""
    parent_style: str = ""
    refused_by: str = ""


def _maps(
    keys: Keys, names: str, *, propagates: str = "", parent_style: str = "", refused_by: str = ""
) -> list[Parameter]:
    return [
        Parameter(name, keys, Form.MAPS, propagates, parent_style, refused_by)
        for name in names.split()
    ]


def _patterns(keys: Keys, names: str, *, parent_style: str = "") -> list[Parameter]:
    return [
        Parameter(name, keys, Form.PATTERNS, parent_style=parent_style) for name in names.split()
    ]


_ALL = [
    *_maps(Keys.ADDRESS, "virtual_alias_maps virtual_maps", propagates="virtual"),
    *_maps(
        Keys.ADDRESS,
        "canonical_maps sender_canonical_maps recipient_canonical_maps",
        propagates="canonical",
    ),
    *_maps(Keys.ADDRESS, "smtp_generic_maps lmtp_generic_maps", propagates="generic"),
    *_maps(
        Keys.ADDRESS,
        "sender_bcc_maps recipient_bcc_maps relocated_maps smtpd_sender_login_maps "
        "local_recipient_maps relay_recipient_maps"
        " sender_dependent_relayhost_maps sender_dependent_default_transport_maps"
        " address_verify_sender_dependent_relayhost_maps address_verify_sender_dependent_default_transport_maps",
    ),
    *_maps(
        Keys.ADDRESS,
        "virtual_mailbox_maps virtual_uid_maps virtual_gid_maps",
        refused_by="virtual(8)",
    ),
    *_maps(Keys.EXACT, "alias_maps mailbox_command_maps", refused_by="local(8)"),
    *_maps(
        Keys.TRANSPORT,
        "transport_maps address_verify_transport_maps",
        parent_style="transport_maps",
    ),
    *_maps(
        Keys.EXACT,
        "mailbox_transport_maps fallback_transport_maps local_login_sender_maps rbl_reply_maps "
        "relay_clientcerts tls_server_sni_maps"
        " smtp_tls_policy_maps lmtp_tls_policy_maps tlsproxy_client_policy_maps tlsproxy_client_policy"
        " smtp_tls_per_site lmtp_tls_per_site tlsproxy_client_per_site"
        " smtpd_milter_maps smtpd_command_filter smtpd_reject_footer_maps "
        "smtpd_reject_filter_maps postscreen_reject_footer_maps"
        " postscreen_command_filter postscreen_dnsbl_reply_map smtpd_discard_ehlo_keyword_address_maps"
        " smtp_discard_ehlo_keyword_address_maps lmtp_discard_lhlo_keyword_address_maps "
        "postscreen_discard_ehlo_keyword_address_maps"
        " smtp_pix_workaround_maps lmtp_pix_workaround_maps smtp_reply_filter lmtp_reply_filter"
        " smtp_dns_reply_filter lmtp_dns_reply_filter smtpd_dns_reply_filter"
        " default_delivery_status_filter smtp_delivery_status_filter lmtp_delivery_status_filter "
        "local_delivery_status_filter"
        " pipe_delivery_status_filter virtual_delivery_status_filter"
        " header_checks mime_header_checks nested_header_checks body_checks milter_header_checks"
        " smtp_header_checks smtp_mime_header_checks smtp_nested_header_checks smtp_body_checks"
        " lmtp_header_checks lmtp_mime_header_checks lmtp_nested_header_checks lmtp_body_checks",
    ),
    *_maps(Keys.MIXED, "smtp_sasl_password_maps lmtp_sasl_password_maps"),
    *_patterns(Keys.DOMAIN, "relay_domains", parent_style="relay_domains"),
    *_patterns(Keys.DOMAIN, "fast_flush_domains", parent_style="fast_flush_domains"),
    *_patterns(
        Keys.EXACT,
        "virtual_alias_domains virtual_mailbox_domains mydestination masquerade_exceptions "
        "smtp_connection_cache_destinations"
        " lmtp_connection_cache_destinations authorized_submit_users authorized_mailq_users authorized_flush_users"
        " postscreen_access_list smtpd_forbidden_commands smtpd_noop_commands postscreen_forbidden_commands"
        " smtpd_sasl_mechanism_filter smtp_sasl_mechanism_filter lmtp_sasl_mechanism_filter",
    ),
    *_patterns(
        Keys.MIXED,
        "mynetworks permit_mx_backup_networks debug_peer_list qmqpd_authorized_clients "
        "smtpd_client_event_limit_exceptions"
        " smtpd_client_connection_limit_exceptions smtpd_authorized_verp_clients smtpd_authorized_xclient_hosts"
        " smtpd_authorized_xforward_hosts smtpd_sasl_exceptions_networks smtpd_forbid_bare_newline_exclusions",
    ),
    *(
        Parameter(name, Keys.MIXED, Form.RESTRICTIONS, parent_style="smtpd_access_maps")
        for name in (
            *(
                f"smtpd_{stage}_restrictions"
                for stage in (
                    "client",
                    "helo",
                    "sender",
                    "relay",
                    "recipient",
                    "data",
                    "end_of_data",
                    "etrn",
                )
            ),
            "local_header_rewrite_clients",
        )
    ),
]

SECRET_PARAMETERS = frozenset(
    {"smtp_sasl_password_maps", "lmtp_sasl_password_maps", "tls_server_sni_maps"}
)
"""Parameters whose tables hold passwords or private keys, which Postfix reads as root or for few of its processes."""

PARAMETERS: dict[str, Parameter] = {parameter.name: parameter for parameter in _ALL}

_SERVED = ("client", "reverse_client_hostname", "helo", "sender", "recipient")

RESTRICTION_KEYS: dict[str, Keys] = {
    "check_helo_access": Keys.HELO,
    "check_etrn_access": Keys.HELO,
    "check_ccert_access": Keys.EXACT,
    "check_sasl_access": Keys.EXACT,
    "check_address_map": Keys.EXACT,
    **{
        f"check_{kind}_access": Keys.ACCESS
        for kind in (
            *("client", "reverse_client_hostname", "sender", "recipient"),
            *(f"{whose}_{server}" for whose in _SERVED for server in ("a", "mx", "ns")),
        )
    },
}
"""The restrictions that take a table, and the keys they ask it for."""

IMPLIED_RESTRICTION: dict[str, str] = {
    "smtpd_client_restrictions": "check_client_access",
    "smtpd_helo_restrictions": "check_helo_access",
    "smtpd_sender_restrictions": "check_sender_access",
    "smtpd_relay_restrictions": "check_recipient_access",
    "smtpd_recipient_restrictions": "check_recipient_access",
    "smtpd_etrn_restrictions": "check_etrn_access",
    "local_header_rewrite_clients": "check_address_map",
}
"""What a table stands for in a restriction list when no restriction is written before it."""
