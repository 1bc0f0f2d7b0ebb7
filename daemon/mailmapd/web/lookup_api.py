"""`listen.lookup_http`: passwords and users over HTTP, for the Lua script of Dovecot 2.4.

    POST /passdb   dict=auth&user=a%40example.com&service=imap   (a form, a JSON object, or GET with a query)
    POST /userdb   the same
    POST /passdb   … &fresh=yes     the same after a password that did not fit, see `engine/dicts/mismatches`
    POST /users    dict=auth[&mask=u*][&limit=100]

    200  {"result": "found", "fields": {"user": "a@example.com", "password": "{BLF-CRYPT}…"}}     passdb and userdb
    200  {"result": "not_found"}
    200  {"result": "found", "users": ["a@example.com", …]}   users, complete with its closing bracket
    400, 421  {"result": "temporary_failure", "reason": "…"}       the request is at fault
    503  {"result": "temporary_failure", "reason": "…"}            nobody could tell

Only the words ``not_found`` mean that a user does not exist: a missing path, a proxy's error page
or a broken body cannot. The parameters beside `dict` are the variables of Dovecot, by their names
in 2.3 or 2.4; each that the query uses must be there, if only empty. `fields=2.4` asks for user
fields under their names in 2.4; a row with one that 2.4 would ignore is a temporary failure.

The list of users is sent in pieces as the database gives them; if it ends early, so does the
connection, before the closing bracket. It ends early, too, for a client that takes nothing of it
for `limits.stall_timeout`: the next one may be waiting for its database connection.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import assert_never
from urllib.parse import parse_qsl

from aiohttp import web

from mailmapd.engine.dicts.service import DictService
from mailmapd.errors import DatabaseError, DataError
from mailmapd.model import Answer, Found, NotFound, PermFail, TempFail
from mailmapd.template.dovecot_variables import BOUNDED, FREE, canonical_name
from mailmapd.web.dovecot_fields import for_dovecot24
from mailmapd.web.shield import host_allowed

log = logging.getLogger(__name__)

# Bytes of a request; user names of 4 KiB take a fifth of it when every byte is encoded
BODY_LIMIT = 64 * 1024
OUR_NAME = "mailmapd"  # the Host that our Lua script writes: over a UNIX socket there is no name
_LIMIT_DIGITS = 19  # more users than anybody has
_PARAMETERS = frozenset({"dict", "fields", "fresh", "user", *BOUNDED, *FREE})
_NOT_FOUND = b'{"result": "not_found"}\n'

Parameters = Mapping[str, bytes]


class BadRequest(Exception):
    """The request cannot be understood; the text says why and holds nothing that the client sent."""


def lookup_app(service: DictService, stall_timeout: Callable[[], float]) -> web.Application:
    """Return the application over one dict service. `stall_timeout` is asked for at each list of users."""

    @web.middleware
    async def check_host(
        request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        # A browser asks with the name of the page that made it ask, see `shield`
        host = request.headers.get("Host", "")
        if host != OUR_NAME and not host_allowed(host):
            return _failure(421, "this name is not served")
        return await handler(request)

    app = web.Application(client_max_size=BODY_LIMIT, middlewares=[check_host])

    async def passdb(request: web.Request) -> web.StreamResponse:
        return await _lookup(service, "passdb", request)

    async def userdb(request: web.Request) -> web.StreamResponse:
        return await _lookup(service, "userdb", request)

    async def users(request: web.Request) -> web.StreamResponse:
        return await _users(service, request, stall_timeout())

    for path, handler in (("/passdb", passdb), ("/userdb", userdb), ("/users", users)):
        app.router.add_post(path, handler)
        app.router.add_get(path, handler, allow_head=False)
    return app


async def _lookup(service: DictService, namespace: str, request: web.Request) -> web.StreamResponse:
    try:
        parameters = await _parameters(request)
        values = {canonical_name(name): value for name, value in parameters.items()}
        unknown = [name for name in values if name not in _PARAMETERS]
        if unknown or not values.get("user"):
            raise BadRequest(
                "the parameters are dict, user and the names of Dovecot's variables; user must not be empty"
            )
    except BadRequest as error:
        return _failure(400, str(error))
    name = values.pop("dict", b"").decode("utf-8", "surrogateescape")
    modern = values.pop("fields", b"") == b"2.4"
    if values.pop("fresh", b"") == b"yes":
        namespace += "-fresh"
    answer = await service.ask(name, namespace, values)
    if modern and isinstance(answer, Found):
        answer = _in_24(answer, name, namespace, service.listener)
    return _response(answer)


def _in_24(found: Found, name: str, namespace: str, listener: str) -> Found | TempFail:
    """Return the fields under their names in 2.4, or a failure when 2.4 would ignore one."""
    try:
        return Found(for_dovecot24(found.value, passdb=namespace != "userdb"))
    except DataError as error:
        log.warning("dict %s: a lookup over %s failed: %s", name, listener, error)
        return TempFail(str(error))


def _response(answer: Answer) -> web.Response:
    match answer:
        case Found(fields):
            return web.Response(
                body=b'{"result": "found", "fields": %b}\n' % fields,
                content_type="application/json",
            )
        case NotFound():
            return web.Response(body=_NOT_FOUND, content_type="application/json")
        case TempFail(reason) | PermFail(reason):
            return _failure(503, reason)
        case _:
            assert_never(answer)


async def _users(
    service: DictService, request: web.Request, stall_timeout: float
) -> web.StreamResponse:
    try:
        parameters = await _parameters(request)
        limit = parameters.get("limit", b"0")
        if not limit.isdigit() or len(limit) > _LIMIT_DIGITS:
            raise BadRequest("limit is not a number")
    except BadRequest as error:
        return _failure(400, str(error))
    name = parameters.get("dict", b"").decode("utf-8", "surrogateescape")
    response: web.StreamResponse | None = None
    async with aclosing(service.users(name, parameters.get("mask", b""), int(limit))) as batches:
        try:
            async for batch in batches:
                listed = ", ".join(
                    json.dumps(user.decode("utf-8", "surrogateescape"), ensure_ascii=False)
                    for user in batch
                )
                if response is None:
                    response = await _start(request)
                else:
                    listed = ", " + listed
                async with asyncio.timeout(stall_timeout):
                    await response.write(listed.encode("utf-8", "surrogateescape"))
        except DatabaseError as error:
            if response is None:
                return _failure(503, str(error))
            return _broken_off(request, response)
        except TimeoutError:
            log.warning(
                "listener %s: a client reads no list of users for %.0f s; connection closed",
                service.listener,
                stall_timeout,
            )
            return _broken_off(request, response)
    if response is None:
        response = await _start(request)
    await response.write_eof(b"]}\n")
    return response


def _broken_off(request: web.Request, response: web.StreamResponse | None) -> web.StreamResponse:
    if request.transport is not None:
        request.transport.abort()
    return response or web.StreamResponse()


async def _start(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    await response.prepare(request)
    await response.write(b'{"result": "found", "users": [')
    return response


async def _parameters(request: web.Request) -> Parameters:
    """Return the parameters as bytes; a form's or query's may be any bytes, JSON strings are UTF-8."""
    if request.method == "GET":
        return _form(request.rel_url.raw_query_string)
    body = await request.read()
    if request.content_type != "application/json":
        return _form(body.decode("latin-1"))
    try:
        members = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BadRequest("the body is not JSON") from error
    if not isinstance(members, dict) or not all(
        isinstance(value, str) for value in members.values()
    ):
        raise BadRequest("the body is not a JSON object of strings")
    return {name: value.encode("utf-8", "surrogatepass") for name, value in members.items()}


def _form(text: str) -> Parameters:
    try:
        return {
            name: value.encode("latin-1")
            for name, value in parse_qsl(
                text, keep_blank_values=True, encoding="latin-1", max_num_fields=64
            )
        }
    except ValueError as error:
        raise BadRequest("the form or query string is not well formed") from error


def _failure(status: int, reason: str) -> web.Response:
    return web.json_response({"result": "temporary_failure", "reason": reason}, status=status)
