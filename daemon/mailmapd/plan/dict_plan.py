"""Dict plans: what a `[dict.NAME]` section asks, compiled, before any database is opened.

The daemon builds its dicts from a plan, `snippets` writes Dovecot's settings from it, and `check` explains its queries.

The tables of dict NAME are called ``NAME.passdb``, ``NAME.userdb`` and ``NAME.iterate``, because
what a dict keeps of a row is not what a map keeps of it. Those of a `dovecot_sql` file ask the
database that its `connect` names (``dict.NAME``) unless the section names another.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from mailmapd.config.files import path_beside
from mailmapd.config.schema import (
    Config,
    DatabaseSection,
    DictSection,
    FileName,
    FileWithSecret,
    Seconds,
    Secret,
    TableCacheSection,
    TableSection,
    TlsSection,
)
from mailmapd.engine.dicts.definition import DictDefinition, PostfixUserQuery
from mailmapd.engine.dicts.fields import PassdbFields, UserdbFields
from mailmapd.errors import ConfigError, Fault, TemplateError
from mailmapd.plan.faults import named_by
from mailmapd.template.dovecot_key import DictKey
from mailmapd.template.dovecot_query import DovecotQuery
from mailmapd.template.mysql_table import MysqlTable
from mailmapd.template.sql_quoting import check_literals

if TYPE_CHECKING:
    from mailmapd.formats.dovecot_sql_conf import DovecotSqlConf

DEFAULT_SCHEME = "CRYPT"
"""The scheme of an unprefixed password of a `passdb` table when `default_pass_scheme` is not set."""

Text = TypeVar("Text", bound=str)

_DEFAULTS = DatabaseSection(driver="mysql")
_FILE_KEYS = {"passdb": "password_query", "userdb": "user_query", "iterate": "iterate_query"}


@dataclass(frozen=True, slots=True)
class PlannedTable:
    """One query of a dict: the names of its table and database, its text, its cache, and what it means."""

    name: str
    database: str
    text: str
    cache: TableCacheSection
    definition: DictDefinition
    key: DictKey


@dataclass(frozen=True, slots=True)
class DictPlan:
    """The queries of one dict; `own_database` is what a dovecot_sql file connects to, under the name the tables use."""

    name: str
    default_scheme: str
    passdb: PlannedTable | None
    userdb: PlannedTable | None
    iterate: PlannedTable | None
    own_database: DatabaseSection | None = None

    @property
    def tables(self) -> tuple[PlannedTable, ...]:
        """Return every table of the dict."""
        return tuple(
            table for table in (self.passdb, self.userdb, self.iterate) if table is not None
        )


def plan_dicts(config: Config) -> dict[str, DictPlan]:
    """Return the plan of every dict. Raises ConfigError with the faults of all of them."""
    plans: dict[str, DictPlan] = {}
    faults: list[Fault] = []
    for name, section in config.dicts.items():
        try:
            plans[name] = _Planner(config, name, section).plan()
        except ConfigError as error:
            faults += error.faults
    if faults:
        raise ConfigError(faults)
    return plans


class _Planner:
    def __init__(self, config: Config, name: str, section: DictSection) -> None:
        self._config = config
        self._name = name
        self._section = section
        self._scheme = section.default_pass_scheme or DEFAULT_SCHEME
        self._faults: list[Fault] = []

    def plan(self) -> DictPlan:
        own: DatabaseSection | None = None
        if self._section.dovecot_sql is None:
            tables = {use: self._configured(use, getattr(self._section, use)) for use in _FILE_KEYS}
        else:
            with named_by(self._config.file, f"dict.{self._name}.dovecot_sql"):
                from mailmapd.formats.dovecot_sql import read_dovecot_sql

                conf = read_dovecot_sql(path_beside(self._config.file, self._section.dovecot_sql))
            self._scheme = conf.default_pass_scheme
            own = None if self._section.database else database_of(conf)
            tables = {use: self._from_file(use, conf) for use in _FILE_KEYS}
        if self._faults:
            raise ConfigError(self._faults)
        return DictPlan(
            self._name, self._scheme, tables["passdb"], tables["userdb"], tables["iterate"], own
        )

    def _configured(self, use: str, name: str | None) -> PlannedTable | None:
        if name is None:
            return None
        table = self._config.tables[name]
        where = f"table.{name}.{'query' if table.dovecot_query is None else 'dovecot_query'}"
        try:
            text = table.dovecot_query or table.query or ""
            database = self._config.databases.get(table.database or "", _DEFAULTS)
            check_literals(text.encode("utf-8", "surrogateescape"), database.charset)
            query = _query(f"{self._name}.{use}", table, sqlite=database.driver == "sqlite")
            return self._planned(use, table.database or "", text, query, table.cache)
        except TemplateError as error:
            self._faults.append(Fault(self._config.file, where, str(error), ""))
            return None

    def _from_file(self, use: str, conf: DovecotSqlConf) -> PlannedTable | None:
        key = _FILE_KEYS[use]
        text: str | None = getattr(conf, key)
        if text is None:
            return None
        try:
            database = self._config.databases.get(self._section.database or "", _DEFAULTS)
            check_literals(text.encode("utf-8", "surrogateescape"), database.charset)
            sqlite = "sqlite" in (conf.driver, database.driver)
            query = DovecotQuery.compile(f"{self._name}.{use}", text, sqlite=sqlite)
            return self._planned(
                use,
                self._section.database or f"dict.{self._name}",
                text,
                query,
                TableCacheSection(),
            )
        except TemplateError as error:
            self._faults.append(conf.fault(key, f"cannot be used: {error}", ""))
            return None

    def _planned(
        self,
        use: str,
        database: str,
        text: str,
        query: DovecotQuery | PostfixUserQuery,
        cache: TableCacheSection,
    ) -> PlannedTable:
        name = f"{self._name}.{use}"
        key = DictKey.of(use, query) if isinstance(query, DovecotQuery) else DictKey(use)
        fields = PassdbFields(name, self._scheme) if use == "passdb" else UserdbFields(name)
        return PlannedTable(name, database, text, cache, DictDefinition(query, fields), key)


def _query(name: str, table: TableSection, *, sqlite: bool) -> DovecotQuery | PostfixUserQuery:
    if table.dovecot_query is not None:
        return DovecotQuery.compile(name, table.dovecot_query, sqlite=sqlite)
    if table.query is None:
        raise TemplateError("a dict's table needs query or dovecot_query")
    template = MysqlTable.compile(
        name,
        table.query.encode(),
        domain=table.domain,
        expansion_limit=0,
        require_result_set=table.require_result_set,
        sqlite=sqlite,
    )
    return PostfixUserQuery(template)


def database_of(conf: DovecotSqlConf) -> DatabaseSection:
    """Return the database section that says what `connect` says."""
    connect = conf.connect
    if conf.driver == "sqlite":
        return DatabaseSection(driver="sqlite", path=_named(FileName, connect.path))
    tls = None
    if connect.ssl_ca or connect.ssl_ca_path:
        tls = TlsSection(
            ca=_named(FileName, connect.ssl_ca),
            capath=_named(FileName, connect.ssl_ca_path),
            cert=_named(FileName, connect.ssl_cert),
            key=_named(FileWithSecret, connect.ssl_key),
            ciphers=connect.ssl_cipher,
            verify=connect.ssl_verify_server_cert,
        )
    return DatabaseSection(
        driver="mysql",
        hosts=connect.hosts,
        user=connect.user,
        password=_named(Secret, connect.password),
        dbname=connect.dbname,
        option_file=_named(FileWithSecret, connect.option_file),
        option_group=connect.option_group or _DEFAULTS.option_group,
        connect_timeout=Seconds(connect.connect_timeout or _DEFAULTS.connect_timeout),
        query_timeout=Seconds(
            min(connect.read_timeout or _DEFAULTS.query_timeout, _DEFAULTS.query_timeout)
        ),
        tls=tls,
    )


def _named(kind: type[Text], text: str | None) -> Text | None:
    """Return a text as the kind of text that the schema has in its place."""
    return None if text is None else kind(text)
