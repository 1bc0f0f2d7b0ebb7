"""Domains in two classes: what main.cf's mydestination names and a map of hosted domains lists, too.

Postfix takes such a domain for local and logs "do not list domain … in BOTH mydestination and
virtual_mailbox_domains": its mailboxes in the database get no mail. See the address classes of
ADDRESS_CLASS_README.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from mailmapd.check.finding import Finding, Level
from mailmapd.check.socketmap_uses import socketmap_uses
from mailmapd.config.schema import Config
from mailmapd.formats.main_cf import MainCf, read_main_cf
from mailmapd.formats.map_list import parse_members
from mailmapd.model import Found
from mailmapd.plan.assembly import Plan, assemble

_DOMAIN_MAPS = ("virtual_mailbox_domains", "virtual_alias_domains")


async def twice_hosted_findings(plan: Plan, directory: Path) -> AsyncIterator[Finding]:
    """Yield the domains that mydestination names and a map of hosted domains has.

    Raises ConfigError when main.cf cannot be read.
    """
    main_cf = read_main_cf(directory)
    domains = list(_named_domains(main_cf))
    engine = assemble(plan).engine
    try:
        for parameter, name in _domain_maps(plan.config, main_cf):
            for domain in domains:
                answer, _ = await engine.maps[name].answer(domain.encode())
                if isinstance(answer, Found):
                    problem = (
                        f"{domain} is in mydestination and in the map {name}: Postfix takes it for local, "
                        "and no mailbox of it gets mail"
                    )
                    remedy = f"remove it from mydestination, or from what {parameter} reads"
                    yield Finding(
                        Level.FAULT,
                        "local_and_hosted",
                        f"{main_cf.path}: mydestination",
                        problem,
                        remedy,
                    )
    finally:
        await engine.close()


def _named_domains(main_cf: MainCf) -> Iterator[str]:
    for member in parse_members(main_cf.value("mydestination")):
        if not (member.negated or member.is_table or member.text.startswith("/")):
            yield member.text.lower()


def _domain_maps(config: Config, main_cf: MainCf) -> Iterator[tuple[str, str]]:
    """Yield the parameters that list hosted domains, each with its maps.

    Those that it names, or will name after the switch.
    """
    uses = [(use.parameter.name, use.map) for use in socketmap_uses(main_cf)]
    for parameter in _DOMAIN_MAPS:
        named = dict.fromkeys(name for user, name in uses if user == parameter) or [parameter]
        yield from ((parameter, name) for name in named if name in config.maps)
