"""The plan of a move: what mailmapd.toml will hold, and what main.cf and master.cf will say instead.

Nothing is written here. Every fault of the files involved is collected before the plan is refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mailmapd.errors import ConfigError, Fault
from mailmapd.formats.logical_lines import BLANKS
from mailmapd.formats.main_cf import MainCf, read_main_cf
from mailmapd.formats.map_list import split_list
from mailmapd.formats.master_cf import Service, read_master_cf
from mailmapd.importers.draft import Draft, DraftSection, unused_name
from mailmapd.importers.postfix.cf_tables import CfTables
from mailmapd.importers.postfix.finder import Findings, Setting, find_mysql
from mailmapd.importers.postfix.local_domains import local_domains
from mailmapd.importers.postfix.parameters import RESTRICTION_KEYS, SECRET_PARAMETERS, Keys
from mailmapd.importers.postfix.split import MapNeed, Unmovable, split_setting

SOCKET_IN_QUEUE = "mailmapd/socketmap"
"""The socket's place below queue_directory, where chrooted and plain Postfix programs find it alike."""


@dataclass(frozen=True, slots=True)
class Change:
    """One parameter's new value; with a service, in its ``-o`` option.

    `stays` are other tables of the list, which remain.
    """

    parameter: str
    service: Service | None
    value: str
    maps: tuple[str, ...]
    stays: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Refusal:
    """A use of MySQL that stays as it is, and why."""

    where: str
    reason: str


@dataclass(slots=True)
class Plan:
    """Everything an import decides."""

    directory: Path
    queue_directory: str
    draft: Draft
    changes: list[Change] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    members: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Map names and the .cf files that they stand for, in order."""


def plan_import(
    directory: Path,
    *,
    keep_cf: bool = False,
    use_postconf: bool = True,
    draft: Draft | None = None,
    saved_suffix: str = "",
) -> Plan:
    """Read a Postfix configuration directory and decide what moves. Raises ConfigError with every fault.

    `saved_suffix` names saved files to read in place of main.cf and, where there is one, of master.cf.
    """
    directory = directory.absolute()
    main_cf = read_main_cf(directory, use_postconf=use_postconf, name=f"main.cf{saved_suffix}")
    saved_master = f"master.cf{saved_suffix}"
    services = read_master_cf(
        directory, saved_master if (directory / saved_master).exists() else "master.cf"
    )
    findings = find_mysql(main_cf, services)
    if not findings.settings and not findings.orphans:
        raise ConfigError(
            [Fault(str(main_cf.path), "", "names no mysql: table", "there is nothing to move")]
        )
    return _Planner(
        main_cf,
        services,
        Plan(directory, main_cf.value("queue_directory"), draft or Draft()),
        keep_cf,
    ).plan(findings)


class _Planner:
    def __init__(
        self, main_cf: MainCf, services: tuple[Service, ...], plan: Plan, keep_cf: bool
    ) -> None:
        self._main_cf = main_cf
        self._services = services
        self._plan = plan
        self._tables = CfTables(plan.draft, keep_cf)
        self._named: dict[tuple[object, ...], str] = {}

    def plan(self, findings: Findings) -> Plan:
        """Fill the plan in."""
        plan = self._plan
        plan.draft.comment = (
            f"Written by mailmapd import from {plan.directory}.\nEvery key is "
            "explained in mailmapd.toml(5)."
        )
        plan.draft.listen.setdefault(
            "socketmap", [f"unix:{plan.queue_directory}/{SOCKET_IN_QUEUE}"]
        )
        plan.draft.listen.setdefault("http", "127.0.0.1:9780")
        plan.draft.listen.setdefault("control", "unix:/run/mailmapd/control")
        for setting in sorted(findings.settings, key=_place):
            self._move(setting)
        for orphan in findings.orphans:
            reason = "names mysql:, but it is not known what Postfix does with it"
            plan.refusals.append(Refusal(f"main.cf line {orphan.line}: {orphan.name}", reason))
        if self._tables.faults:
            raise ConfigError(self._tables.faults)
        return plan

    def _move(self, setting: Setting) -> None:
        if setting.parameter.name in SECRET_PARAMETERS:
            reason = (
                "its values are passwords or keys, and whoever may ask mailmapd's socket could read "
                "them: they stay with Postfix (to serve them all the same, see security.md: secret = true)"
            )
            self._plan.refusals.append(Refusal(setting.where, reason))
            return
        refused_by = setting.parameter.refused_by
        if refused_by == "local(8)":
            reason = (
                "local(8) takes no socketmap: tables; let LMTP deliver (mailbox_transport), "
                "or keep these aliases in a file"
            )
            self._plan.refusals.append(Refusal(setting.where, reason))
            return
        if (
            refused_by == "virtual(8)"
            and setting.service is not None
            and setting.service.command == "virtual"
        ):
            if setting.parameter.name in setting.service.overrides:
                reason = (
                    "virtual(8) takes no socketmap: tables; its own option is of no use "
                    "once virtual_transport names LMTP"
                )
                self._plan.refusals.append(Refusal(setting.where, reason))
            return
        agents = self._virtual_agents(setting.settings) if refused_by == "virtual(8)" else []
        if setting.parameter.name in ("virtual_uid_maps", "virtual_gid_maps"):
            reason = (
                "only virtual(8) reads it, which takes no socketmap: tables; it is of no "
                "use once virtual_transport names LMTP"
            )
            self._plan.refusals.append(Refusal(setting.where, reason))
            return
        kept = self._kept_for_virtual(setting, agents) if setting.service is None else []
        if not all(self._fits_option(setting, change.value) for change in kept):
            return
        change = self._change(setting)
        if change is not None:
            self._plan.changes += [change, *kept]

    def _change(self, setting: Setting) -> Change | None:
        if setting.service is not None and not self._fits_option(
            setting, ",".join(_staying(setting))
        ):
            return None
        domains = local_domains(setting.settings)
        needed: list[str] = []

        def name_map(need: MapNeed) -> str:
            name = self._map(setting, need, domains or ())
            needed.append(name)
            return f"socketmap:unix:{SOCKET_IN_QUEUE}:{name}"

        try:
            split = split_setting(setting, name_map, local_domains_known=domains is not None)
        except Unmovable as error:
            self._plan.refusals.append(Refusal(setting.where, str(error)))
            return None
        value = ",".join(split.members) if setting.service is not None else _joined(split.members)
        return Change(
            setting.parameter.name,
            setting.service,
            value,
            tuple(dict.fromkeys(needed)),
            tuple(split.stays),
            tuple(split.notes),
        )

    def _map(self, setting: Setting, need: MapNeed, domains: tuple[str, ...]) -> str:
        """Return the name of the map for a need, adding it to the draft when no equal one exists."""
        tables = [self._tables.table(file, setting.where) for file in need.files]
        settings = {
            "tables": tables,
            "search": need.keys.value,
            **_search_settings(setting, need.keys, domains),
        }
        key = (need.owner, tuple(tables), repr(settings))
        if key not in self._named:
            name = unused_name(need.owner, {section.name for section in self._plan.draft.maps})
            self._named[key] = name
            self._plan.draft.maps.append(DraftSection(name, settings, setting.where))
            self._plan.members[name] = need.files
        return self._named[key]

    def _virtual_agents(self, settings: MainCf) -> list[Service]:
        """Return the virtual(8) services that deliver mail here, or may do so.

        The results of transport_maps are not known here.
        """
        transports = {
            settings.value(name).partition(":")[0]
            for name in ("virtual_transport", "local_transport", "default_transport")
        }
        may_be_routed = bool(split_list(settings.value("transport_maps")))
        return [
            service
            for service in self._services
            if service.command == "virtual" and (may_be_routed or service.name in transports)
        ]

    def _fits_option(self, setting: Setting, value: str) -> bool:
        """Return whether ``postconf -P`` takes the value; refuse the setting if not."""
        if not any(blank in value for blank in BLANKS):
            return True
        reason = (
            "its value holds white space, which postconf -P does not take: put the table "
            "with the white space into a file of its own"
        )
        self._plan.refusals.append(Refusal(setting.where, reason))
        return False

    def _kept_for_virtual(self, setting: Setting, agents: list[Service]) -> list[Change]:
        """Let virtual(8) go on with the old tables, which it reads itself, while everything else asks mailmapd."""
        old = ",".join(token.text for token in setting.tokens)
        note = (
            "virtual(8) takes no socketmap: tables and keeps the old ones; with "
            "virtual_transport = lmtp:… nothing would ask them"
        )
        return [
            Change(setting.parameter.name, service, old, (), (), (note,))
            for service in agents
            if setting.parameter.name not in service.overrides
        ]


def _staying(setting: Setting) -> Iterator[str]:
    """Yield what no map takes the place of, as it is written."""
    for token in setting.tokens:
        if token.options_block or not token.mentions_mysql:
            yield token.text
        yield from (member.text for member in token.member.inner if not member.mentions_mysql)


def _joined(members: list[str]) -> str:
    """Return a list as people write it: a comma after each member, a blank between a restriction and its table."""
    after = [" " if member.lower() in RESTRICTION_KEYS else ", " for member in members]
    return "".join(
        member + separator for member, separator in zip(members, [*after[:-1], ""], strict=True)
    )


def _place(setting: Setting) -> tuple[int, int]:
    """Return the order of the files: main.cf's lines, then master.cf's."""
    return (0, setting.line) if setting.service is None else (1, setting.service.line)


def _search_settings(setting: Setting, keys: Keys, domains: tuple[str, ...]) -> dict[str, Any]:
    """Return what a map's search needs to know of this Postfix instance."""
    postfix = setting.settings
    found: dict[str, Any] = {}
    if keys in (Keys.ADDRESS, Keys.TRANSPORT, Keys.ACCESS):
        delimiter = postfix.value("recipient_delimiter")
        if delimiter:
            found["recipient_delimiter"] = delimiter
            if not postfix.enabled("owner_request_special"):
                found["owner_request_special"] = False
    if keys is Keys.ADDRESS:
        if setting.parameter.propagates:
            words = split_list(postfix.value("propagate_unmatched_extensions").lower())
            found["propagate_unmatched_extensions"] = setting.parameter.propagates in words
        found["local_domains"] = list(domains)
    if keys in (Keys.TRANSPORT, Keys.ACCESS, Keys.HELO, Keys.DOMAIN):
        style = setting.parameter.parent_style
        found["parent_domain_matches_subdomains"] = style in split_list(
            postfix.value("parent_domain_matches_subdomains")
        )
    return found
