"""The shield of every page of `listen.http`: security headers, and a check of the Host header.

A browser on this machine can be made to ask us by any page it shows, when that page's name is
suddenly said to have our address (DNS rebinding). The request then carries that name in its Host
header, so only names that nobody else can own are served: those of this machine, ``localhost``, and
plain addresses. A request without the header, which no browser sends, is served. Where other
machines may connect, only the pages for people are checked: Prometheus may know this machine by a
name that this machine does not know.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


def make_shield(pages: Iterable[str]) -> Middleware:
    """Return the middleware; `pages` are the paths for people."""
    for_people = frozenset(pages)

    @web.middleware
    async def shield(request: web.Request, handler: Handler) -> web.StreamResponse:
        if not host_allowed(request.headers.get("Host", "")) and (
            request.path in for_people or _from_this_machine(request)
        ):
            text = "This name is not served: use the address, or the name of this machine.\n"
            return web.Response(status=421, text=text, headers=HEADERS)
        try:
            response = await handler(request)
        except web.HTTPException as error:
            _add_headers(error)
            raise
        _add_headers(response)
        return response

    return shield


def _from_this_machine(request: web.Request) -> bool:
    """Return whether the connection came over a loopback address, where browsers are that must be kept from asking."""
    address = None if request.transport is None else request.transport.get_extra_info("sockname")
    if not isinstance(address, tuple):
        return False
    found = ipaddress.ip_address(address[0].partition("%")[0])
    # A socket for both families says ::ffff:127.0.0.1 of who comes to 127.0.0.1
    return (getattr(found, "ipv4_mapped", None) or found).is_loopback


def host_allowed(host: str) -> bool:
    """Return whether a Host header names this machine."""
    name, _, port = host.rpartition(":") if not host.endswith("]") else (host, "", "")
    name = (
        (name if port.isdigit() else host)
        .removeprefix("[")
        .removesuffix("]")
        .removesuffix(".")
        .lower()
    )
    own = socket.gethostname().lower()
    if not host or name in ("localhost", own, own.partition(".")[0]) or name.endswith(".localhost"):
        return True
    try:
        ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        return False
    return True


def _add_headers(response: web.StreamResponse) -> None:
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
