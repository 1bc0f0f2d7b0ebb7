"""Moving one setting: its map in mailmapd.toml and its new value, or the reason why it stays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mailmapd.formats.logical_lines import BLANKS
from mailmapd.formats.main_cf import MainCf
from mailmapd.formats.map_list import split_list
from mailmapd.formats.master_cf import Service
from mailmapd.importers.draft import DraftSection
from mailmapd.importers.postfix.cf_tables import BadTable, CfTables
from mailmapd.importers.postfix.changes import (
    SOCKET_IN_QUEUE,
    Change,
    MovePlan,
    Place,
    Refusal,
    place,
)
from mailmapd.importers.postfix.finder import Setting
from mailmapd.importers.postfix.local_domains import local_domains, own_addresses
from mailmapd.importers.postfix.map_names import name_of_map
from mailmapd.importers.postfix.parameter import PRIVATE, Folding, Form, Keys
from mailmapd.importers.postfix.parameters import RESTRICTION_KEYS, SECRET_PARAMETERS
from mailmapd.importers.postfix.split import MapNeed, Split, Unmovable, split_setting
from mailmapd.importers.served import ServedMap

_CONFIDENTIAL = (
    "its values are passwords or keys, and whoever may ask mailmapd's socket could read "
    "them: they stay with Postfix (to serve them all the same, see security.md: secret = true)"
)
_LOCAL = (
    "local(8) takes no socketmap: tables; let LMTP deliver (mailbox_transport), or keep these "
    "aliases in a file"
)
_VIRTUAL_OPTION = (
    "virtual(8) takes no socketmap: tables; its own option is of no use once virtual_transport "
    "names LMTP"
)
_VIRTUAL_ONLY = (
    "only virtual(8) reads it, which takes no socketmap: tables; it is of no use once "
    "virtual_transport names LMTP"
)
_FOR_VIRTUAL = (
    "virtual(8) takes no socketmap: tables and keeps the old ones; with virtual_transport = "
    "lmtp:… nothing would ask them"
)
_WHITE_SPACE = (
    "its value holds white space, which postconf -P does not take: put the table with the white "
    "space into a file of its own"
)


def fits_an_option(value: str) -> bool:
    """Return whether ``postconf -P`` takes the value."""
    return not any(blank in value for blank in BLANKS)


class Mover:
    """Adds the change of each setting to the plan, or its refusal.

    `held` are parameters that must stay, with the reason. `refused` tells which settings stayed.
    `served` are maps that Postfix may ask already, each under a name that must not come to mean
    another table.
    """

    def __init__(
        self,
        main_cf: MainCf,
        services: tuple[Service, ...],
        plan: MovePlan,
        *,
        keep_cf: bool,
        held: Mapping[str, str],
        served: Mapping[str, ServedMap],
    ) -> None:
        self._main_cf = main_cf
        self._services = services
        self._plan = plan
        self._held = held
        self._served = served
        self._tables = CfTables(plan.draft, keep_cf)
        self._named: dict[tuple[object, ...], str] = {}
        self.refused: set[Place] = set()

    def move(self, setting: Setting) -> None:
        """Plan one setting's move."""
        parameter, service = setting.parameter, setting.service
        if parameter.refused_by == "virtual(8)" and service and service.command == "virtual":
            # Its own option stays; main.cf's value that it sees changes with _kept_for_virtual.
            if parameter.name in service.overrides:
                self._refuse(setting, _VIRTUAL_OPTION)
            return
        reason = self.why_not(setting)
        if reason:
            self._refuse(setting, reason)
            return
        kept = self._kept_for_virtual(setting) if service is None else []
        if not all(fits_an_option(change.value) for change in kept):
            self._refuse(setting, _WHITE_SPACE)
            return
        try:
            change = self._change(setting)
        except Unmovable as error:
            self._refuse(setting, str(error))
        except BadTable as error:
            self._refuse(setting, "; ".join(map(str, error.faults)), error)
        else:
            self._plan.changes += [change, *kept]

    def why_not(self, setting: Setting) -> str:
        """Return why the parameter, whatever its value, stays as it is; nothing when it may move."""
        parameter = setting.parameter
        if parameter.name in self._held:
            return self._held[parameter.name]
        if parameter.name in SECRET_PARAMETERS:
            return _CONFIDENTIAL
        if parameter.refused_by == "local(8)":
            return _LOCAL
        if parameter.readers == ("virtual",):
            return _VIRTUAL_ONLY
        reader = parameter.private_reader
        if reader:
            return (
                f"{reader} reads it {PRIVATE[reader]}, and may not open a socket that belongs to "
                "Postfix's daemons"
            )
        return ""

    def _refuse(self, setting: Setting, reason: str, error: BadTable | None = None) -> None:
        faults = () if error is None else tuple(error.faults)
        self._plan.refusals.append(Refusal(setting.where, reason, faults))
        self.refused.add(place(setting.parameter.name, setting.service))

    def _change(self, setting: Setting) -> Change:
        """Return the change of a setting. Raises Unmovable or BadTable, with nothing added to the draft."""
        domains = local_domains(setting.settings)
        needs: list[MapNeed] = []

        def check(need: MapNeed) -> str:
            needs.append(need)
            return f"socketmap:unix:{SOCKET_IN_QUEUE}:{need.owner}"

        split = self._split(setting, check, domains)
        if setting.service is not None and not fits_an_option(",".join(split.members)):
            raise Unmovable(_WHITE_SPACE)
        self._tables.check([file for need in needs for file in need.files], setting.where)
        maps: list[str] = []

        def add(need: MapNeed) -> str:
            maps.append(self._map(setting, need, needs, domains or ()))
            return f"socketmap:unix:{SOCKET_IN_QUEUE}:{maps[-1]}"

        split = self._split(setting, add, domains)
        value = ",".join(split.members) if setting.service is not None else _joined(split.members)
        moved, stays = tuple(dict.fromkeys(maps)), tuple(split.stays)
        return Change(
            setting.parameter.name, setting.service, value, moved, stays, tuple(split.notes)
        )

    def _split(self, setting: Setting, name_map: Any, domains: tuple[str, ...] | None) -> Split:
        return split_setting(setting, name_map, local_domains_known=domains is not None)

    def _map(
        self,
        setting: Setting,
        need: MapNeed,
        needs: Sequence[MapNeed],
        domains: tuple[str, ...],
    ) -> str:
        """Return the name of the map for a need, adding it to the draft when no equal one exists."""
        tables = [self._tables.table(file) for file in need.files]
        search = {"search": need.keys.value, **_search_settings(setting, need.keys, domains)}
        key = (need.owner, tuple(tables), repr(search))
        if key not in self._named:
            taken = {section.name for section in self._plan.draft.maps}
            in_many_lists = setting.parameter.form is Form.RESTRICTIONS
            others = None if in_many_lists else {other.files for other in needs}
            name = name_of_map(need, search, others, taken=taken, served=self._served)
            self._named[key] = name
            settings = {"tables": tables, **search}
            self._plan.draft.maps.append(DraftSection(name, settings, setting.where))
            self._plan.members[name] = need.files
        return self._named[key]

    def _kept_for_virtual(self, setting: Setting) -> list[Change]:
        """Let virtual(8) go on with the old tables, which it reads itself, while everything else asks mailmapd."""
        if setting.parameter.refused_by != "virtual(8)":
            return []
        old = ",".join(token.text for token in setting.tokens).replace("$", "$$")
        name = setting.parameter.name
        return [
            Change(name, service, old, (), (), (_FOR_VIRTUAL,))
            for service in self._virtual_agents(setting.settings)
            if name not in service.overrides
        ]

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


def _joined(members: list[str]) -> str:
    """Return a list as people write it: a comma after each member, a blank between a restriction and its table."""
    after = [" " if member.lower() in RESTRICTION_KEYS else ", " for member in members]
    return "".join(
        member + separator for member, separator in zip(members, [*after[:-1], ""], strict=True)
    )


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
        own = own_addresses(postfix)
        if own:
            found["own_addresses"] = list(own)
    if keys in (Keys.TRANSPORT, Keys.ACCESS, Keys.HELO, Keys.DOMAIN):
        style = setting.parameter.parent_style
        found["parent_domain_matches_subdomains"] = style in split_list(
            postfix.value("parent_domain_matches_subdomains")
        )
    folding = setting.parameter.folding
    if not postfix.enabled("smtputf8_enable"):
        folding = folding.without_utf8()
    if folding is not Folding.UNICODE:
        found["fold"] = folding.value
    return found
