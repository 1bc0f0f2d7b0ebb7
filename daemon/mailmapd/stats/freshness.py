"""Freshness in words: what changes have dropped, what an audit found, and what is not followed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from mailmapd.stats.figures import as_age, as_count
from mailmapd.stats.snapshot import FeedState, Snapshot

_GRADES = {
    "key": "{} keys",
    "reverse": "{} keys that were looked for",
    "table": "{} times all of a table",
    "distrust": "{} times nothing was proven of a table",
}


def sentences(snapshot: Snapshot) -> Iterator[str]:
    """Yield what there is to say, if the changes of any database are to be followed."""
    if not snapshot["feeds"]:
        return
    tables = snapshot["tables"].values()
    grades = Counter[str]()
    results = Counter[str]()
    for table in tables:
        grades.update(table["invalidations"])
        results.update(table["audits"])
    dropped = [text.format(as_count(grades[grade])) for grade, text in _GRADES.items()]
    yield f"Forgotten: {', '.join(dropped)}."
    compared = results["same"] + results["outdated"]
    yield f"{as_count(results['outdated'])} of {as_count(compared)} audited answers were outdated."
    reasons: dict[str, str] = {}
    for feed in snapshot["feeds"]:
        reasons |= feed["not_followed"]
    for name, reason in sorted(reasons.items()):
        yield f"Table {name} is not followed: {reason}."


def heard(feed: FeedState) -> tuple[str, str]:
    """Return for how long nothing was heard of a host that is followed, and since when no row has changed."""
    if not feed["following"]:
        return "", ""
    changed = feed["last_change"]
    return as_age(feed["silence"]), "none yet" if changed is None else f"{as_age(changed)} ago"
