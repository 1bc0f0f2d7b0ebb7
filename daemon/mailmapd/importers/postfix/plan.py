"""Planning a move: what mailmapd.toml will hold, and what main.cf and master.cf will say instead.

Nothing is written here. What cannot move stays, with its reason; what would change because it
refers to something that moves is kept as it was.
"""

from __future__ import annotations

import grp
import pwd
from collections.abc import Iterator, Mapping
from copy import deepcopy
from pathlib import Path
from types import MappingProxyType

from mailmapd.errors import ConfigError, Fault
from mailmapd.formats.main_cf import MainCf, read_main_cf
from mailmapd.formats.map_list import split_list
from mailmapd.formats.master_cf import Service, read_master_cf
from mailmapd.importers.draft import Draft
from mailmapd.importers.postfix.approvals import PARAMETER as PROXY_READ_MAPS
from mailmapd.importers.postfix.approvals import approved, asked
from mailmapd.importers.postfix.changes import (
    SAVED,
    SOCKET_IN_QUEUE,
    Change,
    MovePlan,
    Place,
    Restore,
    place,
)
from mailmapd.importers.postfix.effects import Drift, drifts, means_the_same, scopes
from mailmapd.importers.postfix.elsewhere import left_alone, other_instances
from mailmapd.importers.postfix.finder import find_mysql, known_parameters, mysql_setting
from mailmapd.importers.postfix.moves import Mover, fits_an_option
from mailmapd.importers.postfix.parameter import REFUSING
from mailmapd.importers.postfix.renewal import Instance, restores, without_mailmapd
from mailmapd.importers.served import ServedMap

_FLUSH = (
    ", and postqueue(1), which reads it for users, may not open mailmapd's socket; leave it empty where "
    "nobody runs postqueue -s"
)
SOCKET_GROUP = "postfix"
"""The group of Postfix's daemons, which must be able to open the socket."""


def plan_import(
    directory: Path,
    *,
    keep_cf: bool = False,
    use_postconf: bool = True,
    draft: Draft | None = None,
    may_be_empty: bool = False,
    served: Mapping[str, ServedMap] = MappingProxyType({}),
) -> MovePlan:
    """Read a Postfix configuration directory and decide what moves.

    Raises ConfigError with every reason when nothing can move, unless the plan `may_be_empty`.
    An instance that asks mailmapd already is planned as it would be without it, from the files that
    switching over saved. `served` are the maps that it may ask.
    """
    directory = directory.absolute()
    today = _instance(directory, "", use_postconf=use_postconf)
    found: list[Restore] = []
    if today.asks_mailmapd() and (directory / f"main.cf{SAVED}").exists():
        saved = _instance(directory, SAVED, use_postconf=use_postconf)
        before = plan_move(directory, saved, keep_cf=True, draft=Draft(), served=served)
        found = restores(today, saved, before)
        today = without_mailmapd(today, found)
    draft = draft if draft is not None else Draft()
    plan = plan_move(directory, today, keep_cf=keep_cf, draft=draft, served=served)
    plan.restores = found
    if not plan.changes and not may_be_empty:
        raise ConfigError(list(_reasons(plan, str(today.main_cf.path))))
    return plan


def _instance(directory: Path, suffix: str, *, use_postconf: bool) -> Instance:
    """Read the files, or their saved copies; where master.cf has none, it did not change."""
    main_cf = read_main_cf(directory, use_postconf=use_postconf, name=f"main.cf{suffix}")
    master = f"master.cf{suffix}" if (directory / f"master.cf{suffix}").exists() else "master.cf"
    return Instance(main_cf, read_master_cf(directory, master))


def _reasons(plan: MovePlan, file: str) -> Iterator[Fault]:
    """Yield why nothing moves."""
    if not plan.refusals:
        yield Fault(file, "", "names no mysql: table", "there is nothing to replace")
    for refusal in plan.refusals:
        if refusal.faults:
            yield from refusal.faults
        else:
            yield Fault(str(plan.directory), refusal.where, refusal.reason, "")


def plan_move(
    directory: Path,
    instance: Instance,
    *,
    keep_cf: bool,
    draft: Draft,
    served: Mapping[str, ServedMap],
) -> MovePlan:
    """Plan the move of an instance whose files are read, adding to the draft. Raises ConfigError."""
    held: dict[str, str] = {}
    while True:
        main_cf, services = instance.main_cf, instance.services
        queue_directory = main_cf.value("queue_directory")
        plan = MovePlan(directory, queue_directory, deepcopy(draft))
        try:
            mover = Mover(main_cf, services, plan, keep_cf=keep_cf, held=held, served=served)
            made = _Planner(main_cf, services, plan, mover).plan()
        except _CannotKeep as error:
            sources = set(error.sources) - held.keys() or {
                change.parameter for change in plan.changes if change.service is None
            }
            held |= dict.fromkeys(sources, str(error))
            continue
        if not made.draft.maps:
            made.draft.listen.pop("socketmap", None)  # nobody would ask it
        for name in ("listen", "databases", "tables", "maps", "comment"):
            setattr(draft, name, getattr(made.draft, name))
        made.draft = draft
        return made


def _group_of(user: str) -> str:
    """Return the name of a user's group, which is mostly the same."""
    try:
        return grp.getgrgid(pwd.getpwnam(user).pw_gid).gr_name
    except KeyError:
        return user


class _CannotKeep(Exception):
    """A parameter that cannot be kept as it was, so that those which it refers to must not move."""

    def __init__(self, drift: Drift, service: Service) -> None:
        super().__init__(
            f"{service.where(drift.name)} refers to it, and its old value cannot be written there "
            "by postconf -P, because it holds white space"
        )
        self.sources = drift.sources


class _Planner:
    def __init__(
        self,
        main_cf: MainCf,
        services: tuple[Service, ...],
        plan: MovePlan,
        mover: Mover,
    ) -> None:
        self._main_cf = main_cf
        self._services = services
        self._plan = plan
        self._known = known_parameters(main_cf, services)
        self._mover = mover
        self._alike: set[Place] = set()

    def plan(self) -> MovePlan:
        """Fill the plan in."""
        plan, mover = self._plan, self._mover
        self._listen()
        for setting in sorted(
            find_mysql(self._main_cf, self._services),
            key=lambda change: (
                (0, change.line) if change.service is None else (1, change.service.line)
            ),
        ):
            mover.move(setting)
        plan.refusals += left_alone(self._main_cf, self._services, self._known)
        self._keep_the_others()
        self._approve()
        plan.notes += [
            f"{other} is another instance of Postfix; import it with --postfix {other} and "
            "another --output"
            for other in other_instances(self._main_cf)
        ]
        return plan

    def _listen(self) -> None:
        draft = self._plan.draft
        draft.comment = (
            f"Written by mailmapd import from {self._plan.directory}.\nEvery key is "
            "explained in mailmapd.toml(5)."
        )
        group = _group_of(self._main_cf.value("mail_owner") or SOCKET_GROUP)
        socket = {"address": f"unix:{self._plan.queue_directory}/{SOCKET_IN_QUEUE}", "group": group}
        draft.listen.setdefault("socketmap", [socket])
        draft.listen.setdefault("http", "127.0.0.1:9780")
        draft.listen.setdefault("control", "unix:/run/mailmapd/control")

    def _keep_the_others(self) -> None:
        """Move what inherits a moved value, or keep it as it was, until nothing differs by accident."""
        while True:
            found = scopes(self._main_cf, self._services, self._plan.changes)
            drift = next(
                (
                    drift
                    for drift in drifts(found)
                    if place(drift.name, drift.scope.service) not in self._alike
                ),
                None,
            )
            if drift is None:
                return
            self._settle(drift)

    def _settle(self, drift: Drift) -> None:
        here = place(drift.name, drift.scope.service)
        if means_the_same(drift, self._known, self._plan.changes):
            self._alike.add(here)
            return
        parameter = self._known.get(drift.name)
        if parameter is not None and here not in self._mover.refused:
            setting = mysql_setting(parameter, drift.scope.service, drift.scope.before)
            if setting is not None and not self._mover.why_not(setting):
                self._mover.move(setting)
                if any(
                    place(change.parameter, change.service) == here for change in self._plan.changes
                ):
                    return
        self._keep(drift)

    def _keep(self, drift: Drift) -> None:
        service = drift.scope.service
        old = drift.old.replace("$", "$$")
        if service is not None and not fits_an_option(old):
            old = ",".join(split_list(old))
            if not fits_an_option(old):
                raise _CannotKeep(drift, service)
        why = f"it refers to {', '.join(drift.sources)}"
        if drift.name == "fast_flush_domains":
            why += _FLUSH
        self._plan.changes.append(Change(drift.name, service, old, (), (), (), keeps=why))

    def _approve(self) -> None:
        """Let proxymap(8) go on opening the tables that are still asked by way of it."""
        found = scopes(self._main_cf, self._services, self._plan.changes)
        wanted: dict[str, None] = {}
        for scope in found:
            if scope.service is None or scope.service.command not in REFUSING:
                names = [name for name in scope.after.names() if name in self._known]
                wanted.update(dict.fromkeys(asked(scope.after, names)))
        proxymap = next(
            (
                scope
                for scope in found
                if scope.service is not None
                and scope.service.command == "proxymap"
                and PROXY_READ_MAPS in scope.service.overrides
            ),
            found[0],
        )
        before, after = approved(proxymap.before), approved(proxymap.after)
        missing = [table for table in wanted if table in before and table not in after]
        if missing:
            raw = proxymap.before.raw(PROXY_READ_MAPS) or ""
            value = " ".join([raw, *(f"proxy:{table}" for table in missing)])
            if proxymap.service is not None:
                value = ",".join(split_list(value))
            note = f"goes on approving {', '.join(missing)}"
            self._plan.changes.append(
                Change(PROXY_READ_MAPS, proxymap.service, value, (), (), (), keeps=note)
            )
