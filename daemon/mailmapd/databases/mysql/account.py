"""What a connection logs in with: the settings, completed from the option file as the client library would."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from mailmapd.databases.host_list import CLIENT_SOCKET, DEFAULT_PORT, HostAddress
from mailmapd.databases.settings import TlsSettings
from mailmapd.errors import DatabaseUnavailable
from mailmapd.formats.option_file import read_option_file

if TYPE_CHECKING:
    from mailmapd.databases.settings import MysqlSettings


@dataclass(frozen=True, slots=True)
class Account:
    """User, password, database and encryption for one login."""

    user: str
    password: str = field(repr=False)
    dbname: str
    tls: TlsSettings | None


def account_for(address: HostAddress, settings: MysqlSettings) -> tuple[HostAddress, Account]:
    """Return where to connect and what to log in with.

    Raises DatabaseUnavailable for an option file that cannot be read.
    """
    account = Account(settings.user, settings.password, settings.dbname, settings.tls)
    if settings.option_file is None:
        return _local(address, CLIENT_SOCKET), account
    try:
        options = read_option_file(settings.option_file, settings.option_group)
    except OSError as error:
        raise DatabaseUnavailable(
            f"{address.label}: option_file {settings.option_file}: {error.strerror}",
            host=address.label,
        ) from error
    account = Account(
        user=settings.user or options.get("user", ""),
        password=settings.password or options.get("password", ""),
        dbname=settings.dbname or options.get("database", ""),
        tls=settings.tls or _tls(options),
    )
    if address.name or address.path:
        return address, account
    return _directed(address, options), account


def _local(address: HostAddress, path: str) -> HostAddress:
    """Give ``localhost`` its socket."""
    return address if address.name or address.path else replace(address, path=path)


def _directed(address: HostAddress, options: dict[str, str]) -> HostAddress:
    """Send ``localhost`` where the option file's host, port and socket say."""
    name = options.get("host", "")
    if name and name.lower() != "localhost":
        port = options.get("port", "")
        return replace(address, name=name, port=int(port) if port.isdecimal() else DEFAULT_PORT)
    return _local(address, options.get("socket") or CLIENT_SOCKET)


def _tls(options: dict[str, str]) -> TlsSettings | None:
    """Return the TLS settings of an option file, None when it has none."""
    named = {name: options.get(option) for name, option in _TLS_OPTIONS.items()}
    verify = _is_on(options, "ssl_verify_server_cert")
    if not any(named.values()) and not verify and not _is_on(options, "ssl"):
        return None
    return TlsSettings(
        ca=named["ca"],
        ca_path=named["ca_path"],
        cert=named["cert"],
        key=named["key"],
        ciphers=named["ciphers"],
        verify=verify,
    )


def _is_on(options: dict[str, str], name: str) -> bool:
    """Tell whether a switch is there, with any value but one that means no."""
    return options.get(name, "0").lower() not in {"0", "off", "false", "no"}


_TLS_OPTIONS = {
    "ca": "ssl_ca",
    "ca_path": "ssl_capath",
    "cert": "ssl_cert",
    "key": "ssl_key",
    "ciphers": "ssl_cipher",
}


def make_tls_context(tls: TlsSettings) -> ssl.SSLContext:
    """Return the context that the settings describe.

    Raises OSError (ssl.SSLError among them) when a file cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if tls.verify:
        if tls.ca or tls.ca_path:
            context.load_verify_locations(cafile=tls.ca, capath=tls.ca_path)
        else:
            context.load_default_certs()
    else:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if tls.cert:
        context.load_cert_chain(tls.cert, tls.key)
    if tls.ciphers:
        context.set_ciphers(tls.ciphers)
    return context
