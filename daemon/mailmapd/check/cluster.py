"""The server of `[cluster]`: whether it is reached, what it does when full, what the account may."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

from mailmapd.check.finding import Finding, Level
from mailmapd.check.plain_tcp import any_certificate, is_this_host, takes_any_certificate
from mailmapd.cluster.scripts import ASK
from mailmapd.cluster.settings import SPARED, ClusterSettings
from mailmapd.cluster.shared_answer import MOST_BYTES
from mailmapd.config.cluster_address import parse_cluster_url
from mailmapd.errors import ClusterError

_WHERE = "cluster"
_SHARING = ("eval", "evalsha", "getrange", "get", "set", "unlink")
"""Commands of the second level, and of its scripts."""

_COMMANDS = (
    *("xadd", "xread", "xinfo|stream", "info", "hget", "hset", "hgetall", "hdel"),
    *("multi", "exec", "ping", "hello", "select"),
)
"""Commands that `cluster.server` uses, and those that redis-py says on a new connection."""


def acl_line(settings: ClusterSettings) -> str:
    """Return the command that makes an account which may do what is needed and nothing else."""
    user, stream = settings.user or _user_of(settings.url) or "mailmapd", settings.stream
    commands: tuple[str, ...] = _COMMANDS
    keys = f"~{stream} ~{settings.members}"
    if settings.second_level:
        commands, keys = (*_COMMANDS, *_SHARING), f"{keys} ~{settings.shared}*"
    allowed = " ".join(f"+{command}" for command in commands)
    return f"ACL SETUSER {user} reset on >PASSWORD {keys} {allowed}"


async def cluster_findings(settings: ClusterSettings) -> AsyncIterator[Finding]:
    """Yield every finding about the server."""
    try:
        from mailmapd.cluster.server import Server
    except ImportError as error:
        problem = f"the Python package {error.name} is missing, so this host would not join"
        remedy = "install mailmapd with its extra [cluster], see docs/fleet.md"
        yield Finding(Level.FAULT, "cluster", _WHERE, problem, remedy)
        return
    async for finding in _network_findings(settings):
        yield finding
    server = Server(settings)
    try:
        try:
            await server.check("0-0")
            if settings.second_level:
                probe = f"{settings.shared}a:check".encode()
                await server.evaluate(ASK, [probe, probe], [0, MOST_BYTES, "", 1, ""])
            facts = await server.facts()
        except ClusterError as error:
            remedy = f"check where it is and the account; what it needs: {acl_line(settings)}"
            yield Finding(Level.FAULT, "cluster", _WHERE, str(error), remedy)
            return
        try:
            await server.try_to_write()
        except ClusterError as error:
            yield Finding(
                Level.FAULT,
                "cluster_mute",
                _WHERE,
                f"{error}: this host could not tell the others anything",
                f"the account needs: {acl_line(settings)}; otherwise look at the server's memory, disk and role",
            )
        for finding in _memory_findings(facts, settings):
            yield finding
        if await server.may_configure():
            yield Finding(
                Level.WARNING,
                "cluster_account",
                _WHERE,
                "the account may read every key and change the server's configuration",
                acl_line(settings),
            )
    finally:
        await server.close()


def _user_of(url: str) -> str:
    return parse_cluster_url(url).user if url else ""


async def _network_findings(settings: ClusterSettings) -> AsyncIterator[Finding]:
    """Yield what others may read or change on the way to the server, and to its Sentinels."""
    encrypted = settings.tls is not None
    if settings.url:
        address = parse_cluster_url(settings.url)
        if address.path or await is_this_host(address.host, address.port):
            return
        encrypted = encrypted or address.encrypted
    if not encrypted:
        yield _in_the_clear(settings)
    elif settings.tls is not None and takes_any_certificate(settings.tls):
        yield any_certificate(_WHERE, settings.place)


def _in_the_clear(settings: ClusterSettings) -> Finding:
    secret = settings.password or settings.sentinel_password
    if secret and not settings.allow_plain_password:
        return Finding(
            Level.FAULT,
            "cluster_plain",
            _WHERE,
            "the password would cross the network in the clear, so it is not given",
            'write rediss:// and tls = {ca = "…"}, or allow_plain_password = true on a network '
            "that is nobody else's",
        )
    return Finding(
        Level.WARNING,
        "cluster_plain",
        _WHERE,
        "every message crosses the network in the clear"
        + (", and so does the password" if secret else ""),
        'write rediss:// and tls = {ca = "…"}, or keep this network to these hosts',
    )


def _memory_findings(facts: Mapping[str, Any], settings: ClusterSettings) -> Iterator[Finding]:
    policy = str(facts.get("maxmemory_policy", ""))
    most, shares = int(facts.get("maxmemory", 0)), settings.second_level
    if shares and most and int(facts.get("used_memory", 0)) > most * SPARED:
        yield Finding(
            Level.WARNING,
            "cluster_full",
            _WHERE,
            f"the server uses more than {SPARED:.0%} of its maxmemory, so that no answers are shared",
            "give it more (CONFIG SET maxmemory), or set second_level_max_bytes lower",
        )
    if policy.startswith("allkeys") and int(facts.get("maxmemory", 0)):
        yield Finding(
            Level.WARNING,
            "cluster_eviction",
            _WHERE,
            f"maxmemory-policy is {policy}: a full server throws the stream away, and every host doubts what it knows",
            "CONFIG SET maxmemory-policy noeviction (or volatile-lru)",
        )
    if not int(facts.get("aof_enabled", 0)) and not int(facts.get("connected_slaves", 0)):
        yield Finding(
            Level.NOTE,
            "cluster_persistence",
            _WHERE,
            "nothing of the stream outlives a restart of the server: a flush for a host that is away is lost with it",
            "CONFIG SET appendonly yes, or run a replica",
        )
