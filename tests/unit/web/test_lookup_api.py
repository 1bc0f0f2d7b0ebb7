from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import pytest
from aiohttp import ClientError, ClientSession
from aiohttp.test_utils import TestServer

from mailmapd.errors import DatabaseUnavailable
from mailmapd.web.lookup_api import BODY_LIMIT, lookup_app
from support.dict_samples import SampleDatabase, sample_service
from support.polling import until

FOUND = {"result": "found", "fields": {"uid": "5000", "home": "/srv/alice@example.com"}}


@pytest.fixture
def database() -> SampleDatabase:
    return SampleDatabase()


@pytest.fixture
async def client(database: SampleDatabase) -> AsyncIterator[ClientSession]:
    """A client of the application over the sample dicts."""
    server = TestServer(lookup_app(sample_service(database), lambda: 0.1))
    await server.start_server()
    async with ClientSession(server.make_url("/")) as session:
        yield session
    await server.close()


async def reply(response: Any) -> tuple[int, Any]:
    async with response as answer:
        return answer.status, await answer.json()


async def test_get_form_and_json_are_the_same(client: ClientSession) -> None:
    """A query string, a form and a JSON object ask the same."""
    values = {"dict": "auth", "user": "alice@example.com"}
    assert await reply(client.get("/userdb", params=values)) == (200, FOUND)
    assert await reply(client.post("/userdb", data=values)) == (200, FOUND)
    assert await reply(client.post("/userdb", json=values)) == (200, FOUND)


async def test_not_found(client: ClientSession) -> None:
    """An unknown user has a status of 200 and the words not_found."""
    assert await reply(client.post("/userdb", data={"dict": "auth", "user": "nobody"})) == (
        200,
        {"result": "not_found"},
    )


async def test_variables_by_either_name(client: ClientSession) -> None:
    """Variables count by their names of Dovecot 2.3 and 2.4."""
    values = {"dict": "auth", "user": "alice@example.com"}
    assert (await reply(client.post("/passdb", data={**values, "service": "imap"})))[1]["fields"][
        "password"
    ] == "{PLAIN}secret"
    assert (await reply(client.post("/passdb", data={**values, "protocol": "pop3"})))[1] == {
        "result": "not_found"
    }


async def test_missing_variable(client: ClientSession) -> None:
    """Without a variable that the query uses the answer is a temporary failure, not one about another value."""
    values = {"dict": "auth", "user": "alice@example.com"}
    reason = "dict auth: the passdb query depends on protocol, which the request does not give"
    assert await reply(client.post("/passdb", data=values)) == (
        503,
        {"result": "temporary_failure", "reason": reason},
    )
    assert (await reply(client.post("/passdb", data={**values, "protocol": ""})))[0] == 200


async def test_any_bytes_as_user(client: ClientSession, database: SampleDatabase) -> None:
    """A user name of any bytes, and of 4 KiB, is asked for as it is."""
    for user in (b"caf\xe9", b"a/b\t\"'\\%+&=", "é".encode() * 2048):
        database.users.append(user)
        body = "dict=auth&user=" + quote(user)
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        async with client.post("/userdb", data=body, headers=headers) as response:
            assert response.status == 200
            assert (await response.read()).startswith(b'{"result": "found"')


async def test_failures_are_never_not_found(
    client: ClientSession, database: SampleDatabase
) -> None:
    """A database that is away, an unknown dict or a bad request has a status of its own and says temporary_failure."""
    database.failure = DatabaseUnavailable("database mail: gone")
    assert await reply(client.post("/userdb", data={"dict": "auth", "user": "x"})) == (
        503,
        {"result": "temporary_failure", "reason": "database mail: gone"},
    )
    for path, data, status in [
        ("/userdb", {"dict": "none", "user": "x"}, 503),
        ("/userdb", {"dict": "auth"}, 400),
        ("/userdb", {"dict": "auth", "user": ""}, 400),
        ("/userdb", {"dict": "auth", "user": "x", "odd": "1"}, 400),
        ("/userdb", {"dict": "auth", "user": "a\0b"}, 503),
        ("/users", {"dict": "auth", "limit": "many"}, 400),
        ("/users", {"dict": "auth", "limit": "9" * 5000}, 400),
        ("/users", {"dict": "bare"}, 503),
    ]:
        code, answer = await reply(client.post(path, data=data))
        assert (code, answer["result"]) == (status, "temporary_failure")


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"user": 1}', b"\xff", b"[" * 50_000])
async def test_bad_json(client: ClientSession, body: bytes) -> None:
    """A JSON body that is not an object of strings is refused."""
    code, answer = await reply(
        client.post("/passdb", data=body, headers={"Content-Type": "application/json"})
    )
    assert (code, answer["result"]) == (400, "temporary_failure")


async def test_body_limit(client: ClientSession) -> None:
    """A body above the limit is refused by its size."""
    async with client.post("/passdb", data=b"x" * (BODY_LIMIT + 1)) as response:
        assert response.status == 413


async def test_fields_of_24(client: ClientSession) -> None:
    """With fields=2.4 the answer is the same when there is nothing to rename."""
    assert await reply(
        client.post("/userdb", data={"dict": "auth", "user": "alice@example.com", "fields": "2.4"})
    ) == (200, FOUND)


async def test_users(client: ClientSession, database: SampleDatabase) -> None:
    """Users are listed in full, by mask and up to a limit."""
    names = [*(b"u%d@example.com" % number for number in range(2500)), b'quo"te', "zoë".encode()]
    database.users = list(names)
    listed = (await reply(client.post("/users", data={"dict": "auth"})))[1]
    assert listed["result"] == "found"
    assert [name.encode() for name in listed["users"]] == names
    assert (await reply(client.post("/users", data={"dict": "auth", "mask": "zo*"})))[1][
        "users"
    ] == ["zoë"]
    assert (
        len((await reply(client.post("/users", data={"dict": "auth", "limit": "3"})))[1]["users"])
        == 3
    )
    database.users = []
    assert await reply(client.get("/users", params={"dict": "auth"})) == (
        200,
        {"result": "found", "users": []},
    )


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "localhost.evil.example"])
async def test_rebinding(client: ClientSession, database: SampleDatabase, host: str) -> None:
    """A request for another machine's name is refused unanswered: a page in a browser may have sent it."""
    asked = client.get(
        "/passdb",
        params={"dict": "auth", "user": "alice@example.com", "service": "imap"},
        headers={"Host": host},
    )
    assert await reply(asked) == (
        421,
        {"result": "temporary_failure", "reason": "this name is not served"},
    )
    assert not database.asked


async def test_users_of_any_bytes(client: ClientSession, database: SampleDatabase) -> None:
    """A name that is not UTF-8 is listed as it is, because another name would be another user."""
    database.users = [b"caf\xe9@example.com"]
    async with client.get("/users", params={"dict": "auth"}) as response:
        assert await response.read() == b'{"result": "found", "users": ["caf\xe9@example.com"]}\n'


async def test_users_that_end_early(client: ClientSession, database: SampleDatabase) -> None:
    """A listing that fails on its way is cut off, so that nobody takes a part for the whole."""
    database.users = [*([b"u"] * 1500), None]
    with pytest.raises((ClientError, ValueError)):
        await reply(client.post("/users", data={"dict": "auth"}))


async def test_users_that_nobody_reads(
    client: ClientSession, database: SampleDatabase, caplog: pytest.LogCaptureFixture
) -> None:
    """A client that stops reading its list is cut off, so that it does not keep the database
    connection from the next one.
    """
    database.users = [b"x" * 1000] * 20_000
    async with client.get("/users", params={"dict": "auth"}) as response:
        await until(lambda: "reads no list of users" in caplog.text)
        with pytest.raises(ClientError):
            await response.read()


async def test_made_up_names_stay_out_of_the_log(
    client: ClientSession, caplog: pytest.LogCaptureFixture
) -> None:
    """The name of a dict that is not configured is not logged: it may hold anything, a line of a log included."""
    assert (await reply(client.get("/users", params={"dict": "odd\nERROR forged"})))[0] == 503
    assert "ended early" in caplog.text
    assert "forged" not in caplog.text
