"""main.cf: the parameters as written, the defaults behind them, and their values with every ``$name`` expanded.

Where Postfix is installed, ``postconf -d`` tells the defaults of this very host and release;
elsewhere the few that map lists and local domains depend on are known here.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mailmapd.errors import ConfigError, Fault
from mailmapd.formats.expansion import ExpansionError, expand
from mailmapd.formats.logical_lines import BLANKS, logical_lines, read_text

_POSTCONF_TIMEOUT = (
    20.0  # seconds; postconf only reads files, but may ask the resolver for this host's name
)


@dataclass(frozen=True, slots=True)
class Entry:
    """One ``name = value`` of main.cf.

    The raw value, the number of its first line, and those of earlier settings that it overrides.
    """

    value: str
    line: int
    overridden: tuple[int, ...] = ()


class MainCf:
    """The parameters of one Postfix instance.

    `overrides` are a master.cf service's ``-o`` options, which come before main.cf.
    """

    def __init__(
        self,
        path: Path,
        entries: Mapping[str, Entry],
        defaults: Mapping[str, str],
        overrides: Mapping[str, str] | None = None,
    ) -> None:
        self.path = path
        self.entries = entries
        self._defaults = defaults
        self._overrides = overrides or {}

    def with_overrides(self, overrides: Mapping[str, str]) -> MainCf:
        """Return the parameters as a service with these ``-o`` options sees them."""
        return MainCf(self.path, self.entries, self._defaults, {**self._overrides, **overrides})

    def with_values(self, values: Mapping[str, str | None]) -> MainCf:
        """Return the parameters with other values in main.cf; None takes a parameter out of it."""
        entries = dict(self.entries)
        for name, value in values.items():
            before = entries.pop(name, None)
            if value is not None:
                entries[name] = Entry(value, before.line if before is not None else 0)
        return MainCf(self.path, entries, self._defaults, self._overrides)

    def names(self) -> list[str]:
        """Return every parameter that is set or has a default."""
        return list(dict.fromkeys((*self.entries, *self._overrides, *self._defaults)))

    def default_names(self) -> set[str]:
        """Return the parameters that Postfix has, as far as their defaults are known."""
        return set(self._defaults)

    def raw(self, name: str) -> str | None:
        """Return the value as written, or the default; None when the parameter is not defined."""
        if name in self._overrides:
            return self._overrides[name]
        entry = self.entries.get(name)
        return entry.value if entry is not None else self._defaults.get(name)

    def is_set(self, name: str) -> bool:
        """Return whether main.cf or a service's option sets the parameter."""
        return name in self._overrides or name in self.entries

    def value(self, name: str) -> str:
        """Return the expanded value, empty when the parameter is not defined. Raises ConfigError."""
        return self.expand(f"${{{name}}}", name)

    def expand(self, text: str, name: str) -> str:
        """Return `text`, which is (a part of) the value of `name`, expanded. Raises ConfigError."""
        try:
            return expand(text, self.raw)
        except ExpansionError as error:
            entry = self.entries.get(name)
            where = f"line {entry.line}: {name}" if entry is not None else name
            raise ConfigError(
                [Fault(str(self.path), where, str(error), "correct it; Postfix refuses it as well")]
            ) from error

    def enabled(self, name: str) -> bool:
        """Return a yes/no parameter."""
        return self.value(name).strip(BLANKS).lower() == "yes"


def read_main_cf(directory: Path, *, use_postconf: bool = True, name: str = "main.cf") -> MainCf:
    """Read the main.cf (or its copy `name`) of a Postfix configuration directory. Raises ConfigError."""
    path = directory / name
    entries = parse_main_cf(read_text(path), str(path))
    defaults = _postconf_defaults(directory) if use_postconf else None
    defaults = defaults if defaults is not None else known_defaults()
    return MainCf(path, entries, {**defaults, "config_directory": str(directory)})


def parse_main_cf(text: str, file: str) -> dict[str, Entry]:
    """Return the parameters that `text` sets; the last of several settings wins.

    Raises ConfigError with every broken line.
    """
    entries: dict[str, Entry] = {}
    faults: list[Fault] = []
    for line in logical_lines(text):
        if line.continues_nothing:
            continue
        name, equals, value = line.text.partition("=")
        name = name.strip(BLANKS)
        if not equals or not name or any(blank in name for blank in BLANKS):
            problem = (
                "a name is missing before the equals sign"
                if equals and not name
                else 'no "name = value"'
            )
            faults.append(
                Fault(
                    file,
                    f"line {line.number}",
                    problem,
                    "write name = value; a continued line starts with white space",
                )
            )
            continue
        before = entries.get(name)
        overridden = (*before.overridden, before.line) if before is not None else ()
        entries[name] = Entry(value.strip(BLANKS), line.number, overridden)
    if faults:
        raise ConfigError(faults)
    return entries


def _postconf_defaults(directory: Path) -> dict[str, str] | None:
    """Return what ``postconf -d`` prints, or None where it is not installed or does not work."""
    postconf = shutil.which("postconf", path="/usr/sbin:/usr/local/sbin:/usr/bin:/sbin")
    if postconf is None:
        return None
    try:
        command = [postconf, "-c", str(directory.absolute()), "-d"]
        done = subprocess.run(  # noqa: S603 (a path of our own, and the folder that was named)
            command,
            capture_output=True,
            timeout=_POSTCONF_TIMEOUT,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    if done.returncode != 0:
        return None
    pairs = (
        line.partition(" =") for line in done.stdout.decode("utf-8", "surrogateescape").splitlines()
    )
    return {name: value.strip(BLANKS) for name, equals, value in pairs if equals}


def known_defaults() -> dict[str, str]:
    """Return the defaults of Postfix 3.7 that map lists and local domains are made of, with this host's name."""
    host = socket.getfqdn()
    if "." not in host:
        host = f"{host}.localdomain"
    return {
        **_DEFAULTS,
        "myhostname": host,
        "mydomain": host.partition(".")[2],
    }


_DEFAULTS = {
    "address_verify_sender_dependent_default_transport_maps": "$sender_dependent_default_transport_maps",
    "address_verify_sender_dependent_relayhost_maps": "$sender_dependent_relayhost_maps",
    "address_verify_transport_maps": "$transport_maps",
    "alias_maps": "hash:/etc/aliases, nis:mail.aliases",
    "command_directory": "/usr/sbin",
    "compatibility_level": "0",
    "config_directory": "/etc/postfix",
    "daemon_directory": "/usr/lib/postfix/sbin",
    "data_directory": "/var/lib/postfix",
    "default_database_type": "hash",
    "default_transport": "smtp",
    "fast_flush_domains": "$relay_domains",
    "inet_interfaces": "all",
    "inet_protocols": "all",
    "local_recipient_maps": "proxy:unix:passwd.byname $alias_maps",
    "local_transport": "local:$myhostname",
    "mail_owner": "postfix",
    "mydestination": "$myhostname, localhost.$mydomain, localhost",
    "myorigin": "$myhostname",
    "owner_request_special": "yes",
    "parent_domain_matches_subdomains": (
        "debug_peer_list,fast_flush_domains,mynetworks,permit_mx_backup_networks,qmqpd_authorized_clients,relay_domains,smtpd_access_maps"
    ),
    "postscreen_discard_ehlo_keyword_address_maps": "$smtpd_discard_ehlo_keyword_address_maps",
    "postscreen_reject_footer_maps": "$smtpd_reject_footer_maps",
    "propagate_unmatched_extensions": "canonical, virtual",
    "proxy_interfaces": "",
    "proxy_read_maps": (
        "$local_recipient_maps $mydestination $virtual_alias_maps $virtual_alias_domains "
        "$virtual_mailbox_maps $virtual_mailbox_domains $relay_recipient_maps $relay_domains "
        "$canonical_maps $sender_canonical_maps $recipient_canonical_maps $relocated_maps "
        "$transport_maps $mynetworks $smtpd_sender_login_maps $sender_bcc_maps "
        "$recipient_bcc_maps $smtp_generic_maps $lmtp_generic_maps $alias_maps "
        "$smtpd_client_restrictions $smtpd_helo_restrictions $smtpd_sender_restrictions "
        "$smtpd_relay_restrictions $smtpd_recipient_restrictions "
        "$address_verify_sender_dependent_default_transport_maps "
        "$address_verify_sender_dependent_relayhost_maps $address_verify_transport_maps "
        "$fallback_transport_maps $lmtp_discard_lhlo_keyword_address_maps "
        "$lmtp_pix_workaround_maps $lmtp_sasl_password_maps $lmtp_tls_policy_maps "
        "$mailbox_command_maps $mailbox_transport_maps "
        "$postscreen_discard_ehlo_keyword_address_maps $rbl_reply_maps "
        "$sender_dependent_default_transport_maps $sender_dependent_relayhost_maps "
        "$smtp_discard_ehlo_keyword_address_maps $smtp_pix_workaround_maps "
        "$smtp_sasl_password_maps $smtp_tls_policy_maps "
        "$smtpd_discard_ehlo_keyword_address_maps $smtpd_milter_maps $virtual_gid_maps "
        "$virtual_uid_maps $local_login_sender_maps $postscreen_reject_footer_maps "
        "$smtpd_reject_footer_maps $tls_server_sni_maps $tlsproxy_client_policy_maps "
        "$default_delivery_status_filter $lmtp_delivery_status_filter $lmtp_dns_reply_filter "
        "$lmtp_reply_filter $local_delivery_status_filter $pipe_delivery_status_filter "
        "$postscreen_command_filter $smtp_delivery_status_filter $smtp_dns_reply_filter "
        "$smtp_reply_filter $smtpd_command_filter $smtpd_dns_reply_filter "
        "$virtual_delivery_status_filter $body_checks $header_checks $lmtp_body_checks "
        "$lmtp_header_checks $lmtp_mime_header_checks $lmtp_nested_header_checks "
        "$milter_header_checks $mime_header_checks $nested_header_checks $smtp_body_checks "
        "$smtp_header_checks $smtp_mime_header_checks $smtp_nested_header_checks"
    ),
    "queue_directory": "/var/spool/postfix",
    "relay_domains": "${{$compatibility_level} <level {2} ? {$mydestination} : {}}",
    "relay_transport": "relay",
    "smtp_sender_dependent_authentication": "no",
    "smtpd_null_access_lookup_key": "<>",
    "smtputf8_enable": "${{$compatibility_level} <level {1} ? {no} : {yes}}",
    "tlsproxy_client_policy_maps": "${tlsproxy_client_policy:$smtp_tls_policy_maps}",
    "virtual_alias_domains": "$virtual_alias_maps",
    "virtual_alias_maps": "$virtual_maps",
    "virtual_mailbox_domains": "$virtual_mailbox_maps",
    "virtual_transport": "virtual",
}
