"""Meanings of answers: what Postfix does with one, for the parameters that decide about mail."""

from __future__ import annotations

from mailmapd.model import Answer, Found, NotFound

_FOUND = {
    "virtual_alias_maps": "Postfix replaces the recipient by this and looks the result up again, "
    "until nothing changes.",
    "canonical_maps": "Postfix rewrites the address in envelope and headers.",
    "sender_canonical_maps": "Postfix rewrites the sender.",
    "recipient_canonical_maps": "Postfix rewrites the recipient.",
    "virtual_mailbox_domains": "Postfix hosts this domain: its recipients must be in "
    "virtual_mailbox_maps. The value itself is not used.",
    "virtual_alias_domains": "Postfix hosts this domain: its recipients must be in "
    "virtual_alias_maps. The value itself is not used.",
    "virtual_mailbox_maps": "The recipient exists. Over LMTP the value itself is not used; "
    "virtual(8) would take it for the mailbox.",
    "relay_domains": "Postfix takes mail for this domain and relays it. The value itself is not used.",
    "relay_recipient_maps": "The recipient exists. The value itself is not used.",
    "local_recipient_maps": "The recipient exists. The value itself is not used.",
    "transport_maps": "Postfix delivers with this transport and next hop.",
    "smtpd_sender_login_maps": "Only these logins may use the sender address (reject_sender_login_mismatch).",
    "sender_bcc_maps": "Postfix sends a blind copy there.",
    "recipient_bcc_maps": "Postfix sends a blind copy there.",
    "sender_dependent_relayhost_maps": "Mail of this sender goes through this relay.",
    "relocated_maps": "Postfix refuses the recipient and tells the new address.",
    "smtp_tls_policy_maps": "Postfix uses this TLS policy for the destination.",
}

_NOT_FOUND = {
    "virtual_alias_maps": "The recipient stays as it is.",
    "virtual_mailbox_domains": "Postfix does not host this domain as a mailbox domain.",
    "virtual_alias_domains": "Postfix does not host this domain as an alias domain.",
    "virtual_mailbox_maps": "Without an alias either, Postfix refuses the recipient: 550 5.1.1 "
    "User unknown in virtual mailbox table.",
    "relay_domains": "Postfix does not relay to this domain.",
    "relay_recipient_maps": "Postfix refuses the recipient: 550 5.1.1 User unknown in relay recipient table.",
    "local_recipient_maps": "Postfix refuses the recipient: 550 5.1.1 User unknown in local recipient table.",
    "transport_maps": "Postfix takes the transport of the recipient's domain class "
    "(virtual_transport, relay_transport, …).",
    "smtpd_sender_login_maps": "Nobody owns the sender address.",
}


def meaning(map_name: str, answer: Answer) -> str:
    """Return one sentence about what happens next, as far as the map's name tells."""
    if isinstance(answer, Found):
        return _FOUND.get(map_name, "")
    if isinstance(answer, NotFound):
        return _NOT_FOUND.get(map_name, "")
    return "Postfix tries again later: smtpd answers 451, mail in the queue waits. Nothing bounces."
