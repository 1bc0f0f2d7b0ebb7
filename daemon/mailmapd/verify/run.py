"""The comparison itself: which maps, which keys, batch by batch, with every difference kept."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mailmapd.config.schema import Config, MapSection
from mailmapd.errors import ConfigError, Fault
from mailmapd.formats.logical_lines import read_text
from mailmapd.importers.postfix.plan import plan_import
from mailmapd.importers.served import served_maps
from mailmapd.model import Answer, Found
from mailmapd.verify.compared_values import asked_forms, odd_forms
from mailmapd.verify.comparison import Verdict, compare
from mailmapd.verify.key_sources import Keys
from mailmapd.verify.key_variants import variants
from mailmapd.verify.new_maps import NewMaps
from mailmapd.verify.old_maps import OldAnswer, OldFound, OldMap
from mailmapd.verify.postmap import LookupFailed, Postmap

BATCH = 2000  # keys asked at once
MAX_DIFFERENCES = 1000  # kept per map; the rest is counted
VARIED = 40  # addresses and domains each that get all their edge cases
_VARIANTS = 60  # edge cases of an address, with its domain

Progress = Callable[[str, int], None]
"""Told the name of a map and how many more of its keys are done."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One key with two answers."""

    map: str
    key: bytes
    old: OldAnswer
    new: Answer


@dataclass(slots=True)
class Result:
    """The result of comparing one map."""

    name: str
    keys: int = 0
    found: int = 0
    old_lookups: int = 0
    old_found: int = 0
    old_failed: int = 0
    broken: str = ""
    """The reason why the old map could not be asked at all, if so: then nothing has been compared."""
    verdicts: Counter[Verdict] = field(default_factory=Counter)
    differences: list[Difference] = field(default_factory=list)

    @property
    def proves_nothing(self) -> bool:
        """Return whether neither side found anything: "not found" twice may mean that both ask the wrong thing."""
        return not self.broken and not (self.found or self.old_found)


def old_maps(config: Config, directory: Path) -> tuple[dict[str, OldMap], list[str]]:
    """Return the old map behind each of the configuration's, as main.cf names it, and the names that it lacks.

    When Postfix has been switched over already, the saved main.cf tells. Raises ConfigError when no map has an old one.
    """
    file = Path(config.file).absolute()
    plan = plan_import(directory, served=served_maps(read_text(file), file.parent))
    sections = {draft.name: draft.settings for draft in plan.draft.maps}
    found: dict[str, OldMap] = {}
    for name, files in plan.members.items():
        if name in config.maps:
            found[name] = OldMap(
                _as_postfix_has_it(sections[name]), tuple(f"mysql:{file}" for file in files)
            )
    if not found:
        remedy = f"its maps are {', '.join(config.maps) or 'none'}; main.cf needs {', '.join(plan.members)}"
        raise ConfigError(
            [
                Fault(
                    config.file,
                    "map",
                    f"has none of the maps that {directory}/main.cf asks for",
                    remedy,
                )
            ]
        )
    return found, [name for name in plan.members if name not in found]


def _as_postfix_has_it(settings: Mapping[str, object]) -> MapSection:
    """Return the search as main.cf asks for it, not as the configuration under test may say."""
    values = {
        key: tuple(value) if isinstance(value, list) else value for key, value in settings.items()
    }
    return MapSection(**values)  # type: ignore[arg-type]


def choose_keys(
    section: MapSection,
    keys: Keys,
    extra: Sequence[bytes],
    limit: int,
    *,
    compared: Sequence[bytes] = (),
    seed: int = 1,
) -> list[bytes]:
    """Return the keys for a map: of the kind it is asked for, edge cases of a few, and all that were given.

    `compared` are values of the columns that the map's queries compare with the key.
    """
    draw = random.Random(seed)  # noqa: S311 - a repeatable choice
    addresses, domains = list(keys.addresses), list(keys.domains)
    varied = min(VARIED, limit // _VARIANTS) if limit else VARIED
    few_addresses = draw.sample(addresses, min(varied, len(addresses)))
    few_domains = draw.sample(domains, min(varied, len(domains)))
    few_values = draw.sample(compared, min(varied, len(compared)))
    wanted = [*extra, *variants(few_addresses, few_domains), *odd_forms(few_values)]
    existing = compared if not limit else draw.sample(compared, min(limit // 2, len(compared)))
    for value in existing:
        wanted += [value, *asked_forms(value)]
    main = domains if section.search == "domain" else [*domains, *addresses]
    room = max(limit - len(wanted), 0) if limit else len(main)
    wanted += main if len(main) <= room else draw.sample(main, room)
    if section.search != "domain":
        wanted += _with_extensions(addresses, room - len(main))
    return list(
        dict.fromkeys(key for key in wanted if key and b"\n" not in key and b"\0" not in key)
    )


def _with_extensions(addresses: Iterable[bytes], room: int) -> Iterator[bytes]:
    """Yield the addresses with an extension and unknown neighbours, while there is room."""
    for address in addresses:
        if room <= 0:
            return
        local, _, domain = address.rpartition(b"@")
        yield local + b"+ext@" + domain
        yield b"no-such-" + local + b"@" + domain
        room -= 2


async def compare_map(
    name: str,
    old: OldMap,
    new: NewMaps,
    *,
    postmap: Postmap,
    keys: Sequence[bytes],
    progress: Progress,
) -> Result:
    """Compare one map's answers to all keys. Raises PostmapError, and MailmapdError when the daemon is gone."""
    result = Result(name)
    reason = ""
    for start in range(0, len(keys), BATCH):
        batch = keys[start : start + BATCH]
        old_answers, new_answers = await asyncio.gather(
            asyncio.to_thread(old.answers, postmap, batch), new.answers(name, batch)
        )
        for key in batch:
            _count(result, old.section, key, old_answers[key], new_answers[key])
            if isinstance(failed := old_answers[key], LookupFailed):
                reason = failed.text
        result.old_lookups = old.lookups
        progress(name, len(batch))
    if result.old_failed == result.keys:
        result.broken = reason
    return result


def _count(result: Result, section: MapSection, key: bytes, old: OldAnswer, new: Answer) -> None:
    verdict = compare(section, key, old, new)
    result.keys += 1
    result.found += isinstance(new, Found)
    result.old_found += isinstance(old, OldFound)
    result.old_failed += isinstance(old, LookupFailed)
    result.verdicts[verdict] += 1
    if verdict is Verdict.DIFFERENT and len(result.differences) < MAX_DIFFERENCES:
        result.differences.append(Difference(result.name, key, old, new))
