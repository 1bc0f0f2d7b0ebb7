"""Names of maps: after the parameter or restriction, and over every further import of the same meaning.

main.cf may ask mailmapd already when an import runs, and goes on to ask until its lines are pasted,
or for ever. So the name that it asks must not come to stand for another table: a restriction put
before the others is not ``check_recipient_access``, though it comes first.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

from mailmapd.importers.draft import unused_name
from mailmapd.importers.postfix.split import MapNeed
from mailmapd.importers.served import ServedMap


def name_of_map(
    need: MapNeed,
    search: Mapping[str, Any],
    others: Collection[tuple[str, ...]] | None,
    *,
    taken: set[str],
    served: Mapping[str, ServedMap],
) -> str:
    """Return the name of the served map for these files, or one that nobody asks for.

    `search` are the settings that it gets. A parameter whose list of files is another one goes on
    under its name, unless `others` of its maps have it; a restriction's maps, which stand in many
    lists (None), do not.
    """
    pattern = re.compile(re.escape(unused_name(need.owner, set())) + r"(_\d+)?")
    mine = {
        name: there
        for name, there in served.items()
        if name not in taken and pattern.fullmatch(name)
    }
    same = [name for name, there in mine.items() if there.files == need.files]
    exact = [name for name in same if mine[name].settings == search]
    renewed = [
        name for name, there in mine.items() if others is not None and there.files not in others
    ]
    found = exact or same or renewed
    return found[0] if found else unused_name(need.owner, taken | served.keys())
