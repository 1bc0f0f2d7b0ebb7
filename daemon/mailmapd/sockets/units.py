"""The socket units of systemd that are shipped, by the listener that each one is for."""

from __future__ import annotations

SOCKET_UNITS = {
    "socketmap": "mailmapd.socket",
    "dict": "mailmapd-dict.socket",
    "lookup_http": "mailmapd-lookup.socket",
    "http": "mailmapd-http.socket",
    "control": "mailmapd-control.socket",
}


def socket_unit(listener: str) -> str:
    """Return the unit that opens the socket of a listener, such as ``dict`` or ``tcp_table.MAP``.

    A listener without one of its own is one more address of the daemon's first.
    """
    kind, _, name = listener.partition(".")
    return (
        f"mailmapd-tcp-table@{name}.socket" if name else SOCKET_UNITS.get(kind, "mailmapd.socket")
    )
