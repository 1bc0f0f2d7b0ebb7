"""From `[database.NAME]` sections and .cf files to databases."""

from __future__ import annotations

from mailmapd.config.schema import Config
from mailmapd.config.schema import Database as DatabaseSection
from mailmapd.config.secrets import database_password
from mailmapd.databases.interface import Database, DatabaseObserver
from mailmapd.databases.mysql import MysqlDatabase
from mailmapd.databases.settings import MysqlSettings, SqliteSettings, TlsSettings
from mailmapd.databases.sqlite import SqliteDatabase
from mailmapd.template.postfix_cf import PostfixCf

Settings = MysqlSettings | SqliteSettings


def section_settings(config: Config, name: str) -> Settings:
    """Return the settings of `[database.name]`, its password read. Raises ConfigError."""
    section = config.databases[name]
    if section.driver == "sqlite":
        return SqliteSettings(
            path=section.path or "",
            readers=min(section.pool_size, 4),
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
        tls=_tls(section),
        charset=section.charset,
        option_file=section.option_file,
        option_group=section.option_group,
        replicas=section.prefer,
        read_only=section.read_only,
    )


def _tls(section: DatabaseSection) -> TlsSettings | None:
    tls = section.tls
    if tls is None:
        return None
    return TlsSettings(ca=tls.ca, ca_path=tls.capath, cert=tls.cert, key=tls.key, verify=tls.verify, ciphers=tls.ciphers)


def make_database(name: str, settings: Settings, observer: DatabaseObserver) -> Database:
    """Return the database; nothing is connected yet."""
    if isinstance(settings, SqliteSettings):
        return SqliteDatabase(name, settings, observer)
    return MysqlDatabase(name, settings, observer)
