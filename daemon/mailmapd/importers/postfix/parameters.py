"""The parameters of Postfix that may name lookup tables, each with its keys, flags and readers.

Read in the sources of Postfix 3.5 to 3.12: maps_create(3), mail_addr_find(3), match_list(3) and their callers.
"""

from __future__ import annotations

from typing import Any

from mailmapd.importers.postfix.parameter import Folding, Form, Keys, Parameter


def _parameters(names: str, readers: str, keys: Keys, **more: Any) -> list[Parameter]:
    return [Parameter(name, keys, readers=tuple(readers.split()), **more) for name in names.split()]


def _client(names: str, keys: Keys, **more: Any) -> list[Parameter]:
    """Return parameters of smtp(8), and the same of lmtp(8): one program with two names."""
    return [
        parameter
        for prefix in ("smtp_", "lmtp_")
        for name in names.split()
        for parameter in _parameters(prefix + name, "smtp lmtp", keys, **more)
    ]


_RESTRICTION_STAGES = "client helo sender relay recipient data end_of_data etrn"
_PATTERNS = {"form": Form.PATTERNS}
_PLAIN = {"folding": Folding.NONE}
_UNCHECKED = {"folding": Folding.ASCII}

_ALL = [
    *_parameters(
        "virtual_alias_maps virtual_maps", "cleanup smtpd", Keys.ADDRESS, propagates="virtual"
    ),
    *_parameters(
        "canonical_maps sender_canonical_maps recipient_canonical_maps",
        "cleanup smtpd",
        Keys.ADDRESS,
        propagates="canonical",
    ),
    *_client("generic_maps", Keys.ADDRESS, propagates="generic"),
    *_parameters("sender_bcc_maps recipient_bcc_maps", "cleanup", Keys.ADDRESS),
    *_parameters(
        "relocated_maps sender_dependent_relayhost_maps sender_dependent_default_transport_maps"
        " address_verify_sender_dependent_relayhost_maps"
        " address_verify_sender_dependent_default_transport_maps",
        "trivial-rewrite",
        Keys.ADDRESS,
    ),
    *_parameters(
        "smtpd_sender_login_maps local_recipient_maps relay_recipient_maps", "smtpd", Keys.ADDRESS
    ),
    *_parameters("virtual_mailbox_maps", "smtpd virtual", Keys.ADDRESS, refused_by="virtual(8)"),
    *_parameters(
        "virtual_uid_maps virtual_gid_maps", "virtual", Keys.ADDRESS, refused_by="virtual(8)"
    ),
    *_parameters("alias_maps", "local", Keys.EXACT, refused_by="local(8)"),
    *_parameters(
        "mailbox_command_maps", "local", Keys.EXACT, refused_by="local(8)", folding=Folding.UTF8
    ),
    *_parameters(
        "mailbox_transport_maps fallback_transport_maps", "local", Keys.EXACT, folding=Folding.UTF8
    ),
    *_parameters(
        "transport_maps address_verify_transport_maps",
        "trivial-rewrite",
        Keys.TRANSPORT,
        parent_style="transport_maps",
    ),
    *_parameters("local_login_sender_maps", "postdrop", Keys.EXACT),
    *_parameters("rbl_reply_maps", "smtpd", Keys.EXACT),
    *_parameters("relay_clientcerts smtpd_command_filter", "smtpd", Keys.EXACT, **_UNCHECKED),
    *_parameters("smtpd_dns_reply_filter", "smtpd", Keys.EXACT, **_UNCHECKED),
    *_parameters("postscreen_command_filter", "postscreen", Keys.EXACT, **_UNCHECKED),
    *_parameters("tls_server_sni_maps", "smtpd tlsproxy", Keys.EXACT, **_UNCHECKED),
    *_client("tls_policy_maps tls_per_site", Keys.EXACT),
    *_parameters(
        "tlsproxy_client_policy_maps tlsproxy_client_policy tlsproxy_client_per_site",
        "tlsproxy",
        Keys.EXACT,
    ),
    *_client("reply_filter dns_reply_filter", Keys.EXACT, **_UNCHECKED),
    *_parameters(
        "smtpd_milter_maps smtpd_reject_footer_maps smtpd_reject_filter_maps"
        " smtpd_discard_ehlo_keyword_address_maps",
        "smtpd",
        Keys.EXACT,
        **_PLAIN,
    ),
    *_parameters(
        "postscreen_reject_footer_maps postscreen_dnsbl_reply_map"
        " postscreen_discard_ehlo_keyword_address_maps",
        "postscreen",
        Keys.EXACT,
        **_PLAIN,
    ),
    *_parameters("smtp_discard_ehlo_keyword_address_maps", "smtp", Keys.EXACT, **_PLAIN),
    *_parameters("lmtp_discard_lhlo_keyword_address_maps", "lmtp", Keys.EXACT, **_PLAIN),
    *_client("pix_workaround_maps delivery_status_filter", Keys.EXACT, **_PLAIN),
    *_parameters(
        "default_delivery_status_filter", "smtp lmtp local pipe virtual", Keys.EXACT, **_PLAIN
    ),
    *_parameters("local_delivery_status_filter", "local", Keys.EXACT, **_PLAIN),
    *_parameters("pipe_delivery_status_filter", "pipe", Keys.EXACT, **_PLAIN),
    *_parameters("virtual_delivery_status_filter", "virtual", Keys.EXACT, **_PLAIN),
    *_parameters(
        "header_checks mime_header_checks nested_header_checks body_checks milter_header_checks",
        "cleanup",
        Keys.EXACT,
        **_PLAIN,
    ),
    *_client(
        "header_checks mime_header_checks nested_header_checks body_checks", Keys.EXACT, **_PLAIN
    ),
    *_client("sasl_password_maps", Keys.MIXED),
    *_parameters(
        "smtp_tls_loglevel_maps lmtp_tls_loglevel_maps smtpd_tls_loglevel_maps"
        " postscreen_tls_loglevel_maps",
        "smtp lmtp smtpd postscreen",
        Keys.MIXED,
    ),
    *_parameters("smtp_requiretls_policy", "smtp", Keys.MIXED, form=Form.PATTERNS, one_by_one=True),
    *_parameters(
        "relay_domains",
        "smtpd trivial-rewrite",
        Keys.DOMAIN,
        parent_style="relay_domains",
        **_PATTERNS,
    ),
    *_parameters(
        "fast_flush_domains",
        "flush postqueue smtpd qmgr smtp lmtp local pipe virtual error discard",
        Keys.DOMAIN,
        parent_style="fast_flush_domains",
        **_PATTERNS,
    ),
    *_parameters(
        "virtual_alias_domains virtual_mailbox_domains mydestination",
        "trivial-rewrite",
        Keys.EXACT,
        **_PATTERNS,
    ),
    *_parameters("masquerade_exceptions", "cleanup", Keys.EXACT, **_PATTERNS),
    *_client("connection_cache_destinations sasl_mechanism_filter", Keys.EXACT, **_PATTERNS),
    *_parameters("use_srv_lookup", "smtp lmtp", Keys.EXACT, **_PATTERNS),
    *_parameters("authorized_submit_users", "postdrop sendmail", Keys.EXACT, **_PATTERNS),
    *_parameters(
        "authorized_mailq_users authorized_flush_users", "postqueue", Keys.EXACT, **_PATTERNS
    ),
    *_parameters("postscreen_access_list", "postscreen", Keys.EXACT, one_by_one=True, **_PATTERNS),
    *_parameters(
        "postscreen_forbidden_commands postscreen_allowlist_interfaces"
        " postscreen_whitelist_interfaces",
        "postscreen",
        Keys.EXACT,
        **_PATTERNS,
    ),
    *_parameters(
        "smtpd_forbidden_commands smtpd_noop_commands smtpd_sasl_mechanism_filter"
        " smtpd_log_access_permit_actions",
        "smtpd",
        Keys.EXACT,
        **_PATTERNS,
    ),
    *_parameters("qmqpd_authorized_clients", "qmqpd", Keys.MIXED, **_PATTERNS),
    *_parameters("debug_peer_list", "smtpd smtp lmtp", Keys.MIXED, **_PATTERNS),
    *_parameters(
        "mynetworks permit_mx_backup_networks smtpd_client_event_limit_exceptions"
        " smtpd_client_connection_limit_exceptions smtpd_authorized_verp_clients"
        " smtpd_authorized_xclient_hosts smtpd_authorized_xforward_hosts"
        " smtpd_sasl_exceptions_networks smtpd_forbid_bare_newline_exclusions",
        "smtpd",
        Keys.MIXED,
        **_PATTERNS,
    ),
    *_parameters(
        " ".join(f"smtpd_{stage}_restrictions" for stage in _RESTRICTION_STAGES.split()),
        "smtpd",
        Keys.MIXED,
        form=Form.RESTRICTIONS,
        parent_style="smtpd_access_maps",
    ),
    *_parameters(
        "local_header_rewrite_clients",
        "smtpd",
        Keys.MIXED,
        form=Form.RESTRICTIONS,
        parent_style="smtpd_access_maps",
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
"""The restriction that a table stands for in a list when none is written before it."""

__all__ = [
    "IMPLIED_RESTRICTION",
    "PARAMETERS",
    "RESTRICTION_KEYS",
    "SECRET_PARAMETERS",
    "Folding",
    "Form",
    "Keys",
    "Parameter",
]
