"""A busy host of a fleet at one moment, on a good day and on a bad one, as its status page and `top` show it."""

from __future__ import annotations

from mailmapd.engine.meters import BUCKETS, LookupMeter
from mailmapd.engine.outcome import Source
from mailmapd.model import Found, NotFound, TempFail
from mailmapd.stats.activity import between
from mailmapd.stats.history import Minute
from mailmapd.stats.snapshot import CacheState, MemberState, Snapshot, lookups_by_name
from mailmapd.web.status_view import StatusView

NOW = 1_790_000_000.0


def _table(entries: int, absent: int) -> CacheState:
    return {
        "hits": 98_765_432,
        "negative_hits": 1_234_567,
        "stale": 0,
        "coalesced": 12,
        "misses": 654_321,
        "entries": entries,
        "negative_entries": absent,
        "max_entries": 1_000_000,
        "max_negative_entries": 200_000,
        "evictions": 0,
        "negative_evictions": 0,
        "schema_error": "",
        "invalidations": {"key": 0, "reverse": 0, "table": 0, "distrust": 0},
        "audits": {"same": 0, "outdated": 0, "failed": 0},
    }


def _snapshot(*, bad: bool) -> Snapshot:
    names = ("virtual_alias_maps", "virtual_mailbox_maps", "smtpd_sender_login_maps", "auth")
    meters = [LookupMeter("socketmap", name) for name in names]
    for place, meter in enumerate(meters):
        for _ in range(9_000 * (place + 1)):
            meter.count(Found(b"v"), Source.CACHE, 0.000004)
        for _ in range(120):
            meter.count(NotFound(), Source.DATABASE, 0.0012)
        if bad:
            meter.count(TempFail("away"), Source.DATABASE, 3.0)
            meter.count(Found(b"v"), Source.STALE, 0.00002)
    problem = "database mail: no host can be reached (db1.internal.example.net:3306: Can't connect)"
    return {
        "version": "0.1.0",
        "started": NOW - 86_400.0,
        "time": NOW,
        "config": {"file": "/etc/mailmapd/mailmapd.toml", "loaded": NOW, "reload_failed": False},
        "problems": [problem] if bad else [],
        "buckets": list(BUCKETS),
        "maps": lookups_by_name(meters[:3], dict.fromkeys(names[:3], 1_234_567)),
        "dicts": lookups_by_name(meters[3:], {"auth": 12}),
        "tables": {
            "alias": _table(812_345, 199_999),
            "a_table_whose_name_is_longer_than_a_phone_is_wide": _table(12, 0),
        },
        "feeds": [
            {
                "database": "mail",
                "host": "db1.internal.example.net:3306",
                "following": not bad,
                "reason": "the account may not read the log" if bad else "",
                "silence": 0.4,
                "last_change": 12.0,
                "counts": {"row": 1_234_567},
                "followed": ["alias"],
                "not_followed": {"vacation": "its answer depends on the function NOW()"},
            }
        ],
        "cluster": {
            "host": "mx1.internal.example.net",
            "up": True,
            "reason": "",
            "lag": 0.4,
            "mute": "",
            "gaps": 3,
            "messages": {"sent": 1_234_567, "received": 7_654_321, "foreign": 0, "unknown": 0},
            "followers": ["mx2.internal.example.net", "mx3.internal.example.net"],
            "watched": {"mail": ["alias"]},
            "second_level": None,
        },
        "databases": {
            "mail": {
                "hosts": [
                    {
                        "host": "unix:/run/mysqld/mysqld.sock",
                        "up": not bad,
                        "reached": True,
                        "idle": 7,
                        "busy": 1,
                        "last_error": "",
                    },
                    {
                        "host": "db2.internal.example.net:3306",
                        "up": not bad,
                        "reached": True,
                        "idle": 0,
                        "busy": 0,
                        "last_error": "",
                    },
                ],
                "queries": {"ok": 654_321} | ({"lost": 12} if bad else {}),
            }
        },
        "memory": {"max_bytes": 2**30, "bytes": {"positive": 2**20}},
        "listeners": {
            "socketmap": {
                "connections": 1234,
                "refused": 0,
                "protocol_errors": {},
                "unknown_names": 0,
            },
            "dict": {
                "connections": 30,
                "refused": 2,
                "protocol_errors": {"bad_hello": 1},
                "unknown_names": 0,
            },
        },
    }


def _members(*, bad: bool) -> dict[str, MemberState]:
    """Three hosts; on a bad day one is silent, asks something else, and has not carried out the last flush."""
    usual: MemberState = {
        "version": "0.1.0",
        "at": NOW - 0.4,
        "position": "1790000000000-0",
        "lag": 0.4,
        "ratio": 0.9987,
        "config": "5d0c1f2e3a4b5c6d",
        "follows": [],
        "watched": 7,
        "left": False,
        "same_key": True,
        "confirmed": True,
    }
    odd: MemberState = {
        **usual,
        "version": "0.0.9",
        "at": NOW - 3_800.0,
        "config": "0f1e2d3c4b5a6978",
        "lag": 3_799.0,
        "confirmed": False,
    }
    follower: MemberState = {**usual, "follows": ["mail", "a_second_database"], "watched": 0}
    return {
        "mx1.internal.example.net": usual,
        "mx2.internal.example.net": follower,
        "a-host-whose-name-is-longer-than-a-phone-is-wide.internal.example.net": odd
        if bad
        else usual,
    }


def _minutes() -> list[Minute]:
    """An hour with a rush, and five minutes in which nobody asked."""
    found = []
    for place in range(60):
        rate = 0.0 if 20 <= place < 25 else 900.0 + 700.0 * (place % 13) / 13
        part = None if rate == 0 else 0.97 + 0.03 * (place % 7) / 7
        p99 = None if rate == 0 else 0.00002 + 0.0001 * (place % 11)
        found.append(Minute(NOW - 60.0 * (59 - place), rate, part, p99, rate * 2.4))
    return found


def make_view(*, bad: bool) -> StatusView:
    """A busy host; on a bad day its database is away."""
    snapshot = _snapshot(bad=bad)
    errors = (
        (NOW - 5.0, "error", "database mail: no host can be reached: " + "Can't connect " * 6),
        (NOW - 65.0, "warning", "slow lookup of virtual_alias_maps: 3.02 s"),
    )
    settings = [("database.mail", [("hosts", "unix:/run/mysqld/mysqld.sock, " * 4)])]
    return StatusView(
        snapshot,
        between(None, snapshot),
        _minutes(),
        settings,
        errors if bad else (),
        _members(bad=bad),
    )
