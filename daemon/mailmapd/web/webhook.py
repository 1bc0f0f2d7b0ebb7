"""`listen.webhook`: a panel says over HTTP what is to be forgotten, as `mailmapd flush` would, on all hosts of a fleet.

    POST /flush   {"user": "info@example.com"}      or key, domain, table, map, all (true); "wait": seconds
                  Authorization: Bearer TOKEN       where there is a token

    200  {"dropped": {"alias": 1}, "unconfirmed": [], "failure": ""}
    202  the same: not every host was told, or has confirmed; `unconfirmed` and `failure` say more
    400  {"failure": "…"}   what is not understood, or names a table or map that is not there
    401  {"failure": "…"}   without the token

A browser cannot be made to send it from another page: it would have to ask first, for the type or the token.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Any

from aiohttp import web

from mailmapd.engine.flush import UnknownName
from mailmapd.engine.orders import FlushOrder, FlushReport, NoFleet, OrderError, decode_order

BODY_LIMIT = 64 * 1024  # bytes of a request


def webhook_app(
    flush: Callable[[FlushOrder], Awaitable[FlushReport]],
    token: Callable[[], str],
) -> web.Application:
    """Return the application; only who brings the `token` gets an answer, if there is one."""

    async def post(request: web.Request) -> web.Response:
        if not _bears(request, token()):
            return _failure(401, "the token is missing, or another one")
        if request.content_type != "application/json":
            return _failure(400, "the body must be JSON, and Content-Type say so")
        try:
            report = await flush(decode_order(_members(await request.read())))
        except (OrderError, UnknownName, NoFleet) as error:
            return _failure(400, str(error))
        everywhere = not report.failure and not report.unconfirmed
        return web.json_response(asdict(report), status=200 if everywhere else 202)

    app = web.Application(client_max_size=BODY_LIMIT)
    app.router.add_post("/flush", post)
    return app


def _bears(request: web.Request, token: str) -> bool:
    said = request.headers.get("Authorization", "").encode("utf-8", "surrogateescape")
    return not token or hmac.compare_digest(said, b"Bearer " + token.encode())


def _members(body: bytes) -> dict[str, Any]:
    try:
        members = json.loads(body)
    except (ValueError, RecursionError):
        members = None
    if not isinstance(members, dict):
        raise OrderError("a request is one JSON object")
    return members


def _failure(status: int, text: str) -> web.Response:
    return web.json_response({"failure": text}, status=status)
