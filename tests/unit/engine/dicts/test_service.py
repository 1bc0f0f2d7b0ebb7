from __future__ import annotations

import asyncio
import logging

import pytest

from mailmapd.engine.answered import Answered
from mailmapd.engine.dicts.service import READ_ONLY, DictService
from mailmapd.errors import DatabaseError, DatabaseUnavailable
from mailmapd.model import (
    NOT_FOUND,
    Answer,
    DictCommit,
    DictIterate,
    DictLookup,
    Found,
    PermFail,
    TempFail,
)
from support.dict_samples import SampleDatabase, sample_service

ALICE = b"alice@example.com"


async def ask(
    service: DictService,
    key: bytes,
    user: bytes = b"",
    name: str = "auth",
) -> Answer:
    later: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
    answered = service.answer(DictLookup(name, key, user))
    if isinstance(answered, Answered):
        return answered.answer
    answer = answered.go_on(later.set_result)
    return await later if answer is None else answer


async def listing(
    service: DictService,
    mask: bytes = b"",
    limit: int = 0,
    prefix: bytes = b"shared/userdb/",
    name: str = "auth",
) -> list[bytes]:
    query = DictIterate(name, prefix, mask, limit, no_value=False)
    return [key for batch in [rows async for rows in service.rows(query)] for key, _ in batch]


async def test_lookups() -> None:
    """A user's rows are found under passdb and userdb, and an unknown user is not found."""
    service = sample_service(SampleDatabase())
    assert await ask(service, b"shared/passdb/alice@example.com/imap") == Found(
        b'{"user": "alice@example.com", "password": "{PLAIN}secret"}'
    )
    assert await ask(service, b"shared/userdb/alice@example.com") == Found(
        b'{"uid": "5000", "home": "/srv/alice@example.com"}'
    )
    assert await ask(service, b"shared/userdb/nobody@example.com") == NOT_FOUND


async def test_answers_are_kept_per_variable() -> None:
    """Each service has an answer of its own, and a second lookup asks no database."""
    database = SampleDatabase()
    service = sample_service(database)
    for _ in range(3):
        assert isinstance(await ask(service, b"shared/passdb/alice@example.com/imap"), Found)
        assert await ask(service, b"shared/passdb/alice@example.com/pop3") == NOT_FOUND
    assert len(database.asked) == 2


async def test_memory_answers_at_once() -> None:
    """What is in memory is answered without waiting, with what it was made of; what is not waits for the database."""
    service = sample_service(SampleDatabase())
    query = DictLookup("auth", b"shared/userdb/alice@example.com", ALICE)
    waiting = service.answer(query)
    assert not isinstance(waiting, Answered)
    later: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
    assert waiting.go_on(later.set_result) is None
    answer = await later
    answered = service.answer(query)
    assert isinstance(answered, Answered)
    assert answered.answer == answer
    assert answered.keys == (ALICE,)
    assert answered.use is not None
    assert [(part.table.name, part.absent) for part in answered.use.parts] == [
        ("auth.userdb", False)
    ]
    assert answered.until > 0.0


async def test_repeated_answers_are_counted() -> None:
    """Who gives an answer again counts it by its use, as a lookup of the dict and a hit of the table."""
    service = sample_service(SampleDatabase())
    for key in (b"shared/userdb/alice@example.com", b"shared/userdb/nobody"):
        await ask(service, key)
        answered = service.answer(DictLookup("auth", key, b""))
        assert isinstance(answered, Answered)
        assert answered.use is not None
        answered.use.count(0.0)
    service.settle()
    assert service.meters["auth"].results == [3, 3, 0, 0]


async def test_database_failure_is_temporary() -> None:
    """A database that is away is a temporary failure, never an unknown user."""
    database = SampleDatabase()
    database.failure = DatabaseUnavailable("database mail: gone")
    assert await ask(sample_service(database), b"shared/userdb/alice@example.com") == TempFail(
        "database mail: gone"
    )


@pytest.mark.parametrize(
    "key",
    [
        b"priv/quota/storage",
        b"shared/last-login/alice@example.com/imap",
        b"shared/passdb",
        b"shared/",
        b"",
        b"passdb/a@b/imap",
        b"shared/PASSDB/a/imap",
    ],
)
async def test_key_outside_every_namespace(key: bytes) -> None:
    """A key outside the namespaces is refused with the namespaces there are."""
    answer = await ask(sample_service(SampleDatabase()), key)
    assert isinstance(answer, PermFail)
    assert "shared/passdb/…, shared/passdb-fresh/… and shared/userdb/… only" in answer.reason


@pytest.mark.parametrize(
    ("key", "user"),
    [
        (b"shared/passdb/alice@example.com", ALICE),
        (b"shared/passdb//imap", b""),
        (b"shared/userdb/", b""),
        (b"shared/userdb/a\0b", b""),
    ],
)
async def test_key_of_another_layout(key: bytes, user: bytes) -> None:
    """A key that lacks a variable, a user name or holds NUL is a temporary failure."""
    database = SampleDatabase()
    assert isinstance(await ask(sample_service(database), key, user), TempFail)
    assert database.asked == []


async def test_unknown_dict_and_missing_namespace() -> None:
    """A dict that is not there, or has no such table, says so."""
    service = sample_service(SampleDatabase())
    assert await ask(service, b"shared/userdb/x", name="none") == service.unknown("none")
    assert "no dict none; its dicts are: auth" in service.unknown("none").reason
    assert await ask(service, b"shared/userdb/x", name="bare") == PermFail(
        "dict bare has no userdb"
    )
    assert (service.knows("bare"), service.knows("none")) == (True, False)


async def test_asking_with_variables() -> None:
    """A lookup by values gives what the same lookup by key gives, from the same memory."""
    database = SampleDatabase()
    service = sample_service(database)
    by_key = await ask(service, b"shared/passdb/alice@example.com/imap")
    assert await service.ask("auth", "passdb", {"user": ALICE, "service": b"IMAP"}) == by_key
    assert len(database.asked) == 1
    assert isinstance(await service.ask("auth", "passdb", {"user": b""}), TempFail)
    assert await service.ask("auth", "groups", {"user": b"x"}) == PermFail(
        "dict auth has no groups"
    )


async def test_transactions_are_refused(caplog: pytest.LogCaptureFixture) -> None:
    """A transaction is refused with a reason, which the log says."""
    commit = DictCommit("auth", 1, wants_reply=True)
    assert sample_service(SampleDatabase()).commit(commit) == READ_ONLY
    assert "dict auth: a write over dict was refused" in caplog.text


async def test_refusals_are_logged_without_the_key(caplog: pytest.LogCaptureFixture) -> None:
    """The log says which dict refused and why, not what was asked."""
    caplog.set_level(logging.INFO)
    await ask(sample_service(SampleDatabase()), b"shared/passdb/who-is-this", b"")
    assert "dict auth: a lookup over dict was refused: passdb: the key does not fit" in caplog.text
    assert "who-is-this" not in caplog.text


@pytest.mark.parametrize(
    ("mask", "names"),
    [
        (b"", [ALICE, b"bob@example.com"]),
        (b"*", [ALICE, b"bob@example.com"]),
        (b"a*", [ALICE]),
        (b"A*@EXAMPLE.com", [ALICE]),
        (b"b?b@*", [b"bob@example.com"]),
        (b"bob@example.com", [b"bob@example.com"]),
        (b"[a]*", []),
        (b"bob", []),
    ],
)
async def test_listing_honours_the_mask(mask: bytes, names: list[bytes]) -> None:
    """Only user names that fit the mask are listed, each below the prefix that was asked."""
    assert await listing(sample_service(SampleDatabase()), mask) == [
        b"shared/userdb/" + name for name in names
    ]


async def test_listing_in_batches() -> None:
    """A long listing comes in batches, and a limit ends it."""
    database = SampleDatabase()
    database.users = [b"u%05d@example.com" % number for number in range(2500)]
    service = sample_service(database)
    query = DictIterate("auth", b"shared/userdb/", b"", 0, no_value=False)
    assert [len(rows) async for rows in service.rows(query)] == [1000, 1000, 500]
    assert len(await listing(service, limit=1700)) == 1700
    assert len(await listing(service, b"u*1@*", limit=7)) == 7
    assert len(await listing(service, limit=9999)) == 2500


async def test_listing_another_prefix_or_without_query_fails() -> None:
    """What cannot be listed is an error, not an empty list."""
    service = sample_service(SampleDatabase())
    for prefix in (b"shared/passdb/", b"priv/", b"", b"shared/userdb/a"):
        with pytest.raises(DatabaseError, match="lists shared/userdb/ only"):
            await listing(service, prefix=prefix)
    with pytest.raises(DatabaseError, match="dict bare has no iterate query"):
        await listing(service, name="bare")


async def test_listing_with_a_null_name_fails() -> None:
    """A NULL user name makes the listing fail, as in Dovecot: a part of the users is not the users."""
    database = SampleDatabase()
    database.users = [ALICE, None]
    with pytest.raises(DatabaseError, match="NULL"):
        await listing(sample_service(database))


async def test_meters() -> None:
    """Lookups, refusals and listings are counted under the dict, an unknown dict under no name."""
    service = sample_service(SampleDatabase())
    await ask(service, b"shared/userdb/alice@example.com")
    await ask(service, b"shared/userdb/alice@example.com")
    await ask(service, b"shared/userdb/nobody")
    await ask(service, b"priv/x")
    await ask(service, b"priv/x", name="none")
    await listing(service)
    service.settle()
    assert service.meters["auth"].results == [3, 1, 0, 1]
    assert service.meters[""].results == [0, 0, 0, 1]
