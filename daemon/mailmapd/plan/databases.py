"""From `[database.NAME]` sections and .cf files to databases."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from mailmapd.config.files import path_beside
from mailmapd.config.schema import Config, TlsSection
from mailmapd.config.secrets import changes_password, database_password
from mailmapd.databases.host_list import parse_hosts
from mailmapd.databases.interface import Database, DatabaseObserver
from mailmapd.databases.mysql.account import check_option_file
from mailmapd.databases.mysql.database import MysqlDatabase
from mailmapd.databases.settings import (
    ChangesSettings,
    MysqlSettings,
    SqliteSettings,
    TlsSettings,
    sqlite_readers,
)
from mailmapd.formats.postfix_cf import PostfixCf
from mailmapd.template.sql_quoting import make_quote

Settings = MysqlSettings | SqliteSettings


def section_settings(config: Config, name: str) -> Settings:
    """Return the settings of `[database.name]`, its password read. Raises ConfigError."""
    section = config.databases[name]
    if section.driver == "sqlite":
        return SqliteSettings(
            path=_file(config, section.path) or "",
            readers=sqlite_readers(section.pool_size),
            query_timeout=section.query_timeout,
            queue_timeout=section.queue_timeout,
            max_queued=section.max_queued,
        )
    return MysqlSettings(
        hosts=section.hosts or ("localhost",),
        user=section.user or "",
        password=database_password(config, name),
        dbname=section.dbname or "",
        pool_size=section.pool_size,
        connect_timeout=section.connect_timeout,
        query_timeout=section.query_timeout,
        queue_timeout=section.queue_timeout,
        max_queued=section.max_queued,
        retry_interval=section.retry_interval,
        idle_interval=section.idle_interval,
        tls=tls_settings(config, section.tls),
        charset=section.charset,
        option_file=_file(config, section.option_file),
        option_group=section.option_group,
        replicas=section.prefer,
        read_only=section.read_only,
        server_public_key=_file(config, section.server_public_key),
        get_server_public_key=section.get_server_public_key,
    )


def changes_settings(config: Config, name: str) -> ChangesSettings:
    """Return how a database's changes are followed; one that no section names is followed where it may be.

    Raises ConfigError.
    """
    section = config.databases[name].changes if name in config.databases else None
    if section is None:
        return ChangesSettings()
    return ChangesSettings(
        follow=section.follow,
        watched_ttl=section.watched_ttl,
        watched_negative_ttl=section.watched_negative_ttl,
        audit=section.audit,
        user=section.user,
        password=changes_password(config, name),
    )


def _file(config: Config, name: str | None) -> str | None:
    return name and str(path_beside(config.file, name))


def tls_settings(config: Config, tls: TlsSection | None) -> TlsSettings | None:
    """Return what a `tls = {…}` says."""
    if tls is None:
        return None
    return TlsSettings(
        ca=_file(config, tls.ca),
        ca_path=_file(config, tls.capath),
        cert=_file(config, tls.cert),
        key=_file(config, tls.key),
        verify=tls.verify,
        ciphers=tls.ciphers,
    )


def cf_settings(cf: PostfixCf) -> Settings:
    """Return the settings that a .cf file of Postfix says."""
    if cf.sqlite:
        return SqliteSettings(path=cf.dbpath)
    return MysqlSettings(
        hosts=cf.hosts,
        user=cf.user,
        password=cf.password,
        dbname=cf.dbname,
        retry_interval=cf.retry_interval,
        idle_interval=cf.idle_interval,
        tls=_cf_tls(cf),
        charset=cf.charset,
        option_file=cf.option_file,
        option_group=cf.option_group,
    )


def _cf_tls(cf: PostfixCf) -> TlsSettings | None:
    """Return how a .cf file wants TLS.

    An authority that it names is used; the name in the certificate is compared only when
    tls_verify_cert says so, as by the client library.
    """
    files = (cf.tls_ca_file, cf.tls_ca_path, cf.tls_cert_file, cf.tls_key_file, cf.tls_ciphers)
    if not any(files) and not cf.tls_verify_cert:
        return None  # not to check a certificate asks for no encryption
    return TlsSettings(
        ca=cf.tls_ca_file,
        ca_path=cf.tls_ca_path,
        cert=cf.tls_cert_file,
        key=cf.tls_key_file,
        ciphers=cf.tls_ciphers,
        verify=bool(cf.tls_verify_cert),
    )


def check_settings(settings: Settings) -> None:
    """Raise ValueError for a host, replica, character set or option file that cannot be."""
    if isinstance(settings, MysqlSettings):
        check_option_file(settings)
        with _of("hosts"):
            parse_hosts(settings.hosts)
        with _of("charset"):
            make_quote(settings.charset, no_backslash_escapes=False)
        MysqlDatabase("", settings)


@contextmanager
def _of(key: str) -> Iterator[None]:
    """Let a ValueError name the key that is at fault."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{key}: {error}") from error


def make_database(name: str, settings: Settings, observer: DatabaseObserver) -> Database:
    """Return the database; nothing is connected yet."""
    if isinstance(settings, SqliteSettings):
        from mailmapd.databases.sqlite.database import SqliteDatabase

        return SqliteDatabase(name, settings, observer)
    return MysqlDatabase(name, settings, observer)
