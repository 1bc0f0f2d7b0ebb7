"""Accounts: the settings of a login, completed from the option file as the client library would."""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from mailmapd.databases.host_list import CLIENT_SOCKET, DEFAULT_PORT, HostAddress
from mailmapd.databases.settings import TlsSettings
from mailmapd.errors import DatabaseUnavailable
from mailmapd.formats.option_file import read_option_file, refused_option

if TYPE_CHECKING:
    from mailmapd.databases.settings import MysqlSettings


@dataclass(frozen=True, slots=True)
class Account:
    """User, password, database and encryption for one login."""

    user: str
    password: str = field(repr=False)
    dbname: str
    tls: TlsSettings | None
    server_public_key: bytes | None = None
    get_server_public_key: bool = False


def account_for(address: HostAddress, settings: MysqlSettings) -> tuple[HostAddress, Account]:
    """Return where to connect and what to log in with.

    Raises DatabaseUnavailable for an option file or a key that cannot be read.
    """
    if settings.option_file is None:
        account = Account(
            settings.user,
            settings.password,
            settings.dbname,
            settings.tls,
            _public_key(address, settings.server_public_key),
            settings.get_server_public_key,
        )
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
        tls=_completed(settings.tls, _tls(options)),
        server_public_key=_public_key(
            address, settings.server_public_key or options.get("server_public_key_path")
        ),
        get_server_public_key=settings.get_server_public_key
        or _is_on(options, "get_server_public_key"),
    )
    if address.name:
        return _with_port(address, options), account
    return _directed(address, options), account


def _public_key(address: HostAddress, path: str | None) -> bytes | None:
    """Return the server's public key, in PEM, from its file."""
    if not path:
        return None
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise DatabaseUnavailable(
            f"{address.label}: server_public_key {path}: {error.strerror}", host=address.label
        ) from error


def _local(address: HostAddress, path: str) -> HostAddress:
    """Give ``localhost`` its socket."""
    return address if address.name or address.path else replace(address, path=path)


def _with_port(address: HostAddress, options: dict[str, str]) -> HostAddress:
    """Give a host the option file's port, unless the configuration says one itself."""
    port = options.get("port", "")
    if address.says_port or not port.isdecimal():
        return address
    return replace(address, port=int(port))


def check_option_file(settings: MysqlSettings) -> None:
    """Raise ValueError for an option file that asks for more than is done here.

    One that cannot be read is told at the login.
    """
    path = settings.option_file
    if path is None or not os.access(path, os.R_OK):
        return
    try:
        reason = refused_option(read_option_file(path, settings.option_group))
    except OSError as error:
        raise ValueError(f"option_file {path}: {error.strerror}") from error
    if reason:
        raise ValueError(f"option_file {path}: {reason}")


def _directed(address: HostAddress, options: dict[str, str]) -> HostAddress:
    """Send ``localhost`` and a socket where the option file's host, port and socket say.

    The client library is told of no host for either, so that the option file's is taken, also in a socket's place.
    """
    name = options.get("host", "")
    if name and name.lower() != "localhost":
        port = options.get("port", "")
        port_number = int(port) if port.isdecimal() else DEFAULT_PORT
        return replace(address, name=name, path="", port=port_number)
    return _local(address, options.get("socket") or CLIENT_SOCKET)


def _tls(options: dict[str, str]) -> TlsSettings | None:
    """Return the TLS settings of an option file, None when it has none."""
    named = {name: options.get(option) for name, option in _TLS_OPTIONS.items()}
    mode = options.get("ssl_mode", "").upper()
    verify = _is_on(options, "ssl_verify_server_cert") or mode == "VERIFY_IDENTITY"
    wanted = verify or mode in _MODES_WITH_TLS
    wanted = wanted or _is_on(options, "ssl") or _is_on(options, "ssl_enforce")
    if not any(named.values()) and not wanted:
        return None
    if mode == "VERIFY_CA" and not (named["ca"] or named["ca_path"]):
        verify = True  # the authorities are the system's, which vouch for names
    return TlsSettings(
        ca=named["ca"],
        ca_path=named["ca_path"],
        cert=named["cert"],
        key=named["key"],
        ciphers=named["ciphers"],
        verify=verify,
    )


def _completed(ours: TlsSettings | None, theirs: TlsSettings | None) -> TlsSettings | None:
    """Return our TLS settings with the option file's where ours say nothing: neither side's authority is lost."""
    if ours is None or theirs is None:
        return ours or theirs
    own_authority = bool(ours.ca or ours.ca_path)
    own_certificate = bool(ours.cert)
    return TlsSettings(
        ca=ours.ca if own_authority else theirs.ca,
        ca_path=ours.ca_path if own_authority else theirs.ca_path,
        cert=ours.cert if own_certificate else theirs.cert,
        key=ours.key if own_certificate else theirs.key,
        ciphers=ours.ciphers or theirs.ciphers,
        verify=ours.verify or theirs.verify,
    )


def _is_on(options: dict[str, str], name: str) -> bool:
    """Tell whether a switch is there, with any value but one that means no."""
    return options.get(name, "0").lower() not in {"0", "off", "false", "no"}


_MODES_WITH_TLS = ("REQUIRED", "VERIFY_CA", "VERIFY_IDENTITY")
"""MySQL's `ssl-mode`, as far as it insists on encryption; MariaDB's client library does not know it."""

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
    context.check_hostname = tls.verify
    if tls.ca or tls.ca_path:
        context.load_verify_locations(cafile=tls.ca, capath=tls.ca_path)
        # What is named is trusted as it stands, also without the root that signed it, as the
        # client library has it.
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    elif tls.verify:
        context.load_default_certs()
    else:
        context.verify_mode = ssl.CERT_NONE
    if tls.cert:
        # A password, even none, keeps OpenSSL from asking the terminal for that of an encrypted key
        context.load_cert_chain(tls.cert, tls.key, password="")
    if tls.ciphers:
        context.set_ciphers(tls.ciphers)
    return context


class TlsContexts:
    """TLS contexts by their settings: each is made once, and anew when one of its files is another."""

    def __init__(self) -> None:
        self._made: dict[TlsSettings, tuple[tuple[object, ...], ssl.SSLContext]] = {}

    def of(self, tls: TlsSettings) -> ssl.SSLContext:
        """Return the context that the settings describe now. Raises OSError when a file cannot be used."""
        files = tuple([_version_of(file) for file in (tls.ca, tls.ca_path, tls.cert, tls.key)])
        made = self._made.get(tls)
        if made is None or made[0] != files:
            made = self._made[tls] = files, make_tls_context(tls)
        return made[1]


def _version_of(file: str | None) -> object:
    """Return what tells a file, or a folder of files, from the one that had its name before."""
    if file is None:
        return None
    found = Path(file).stat()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
