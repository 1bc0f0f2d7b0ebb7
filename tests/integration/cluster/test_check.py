"""`check` of the server between the hosts, and an account that may do no more than it must."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from mailmapd.check.cluster import acl_line, cluster_findings
from mailmapd.cluster import exchange
from mailmapd.cluster.settings import ClusterSettings
from mailmapd.engine.invalidation import Invalidation
from support.certificates import make_certificates
from support.fleet import SECOND_LEVEL, fleet
from support.mariadb import MariaDB, private_directory
from support.polling import until
from support.process import free_port
from support.settled import is_busy
from support.valkey import Kind, Valkey

pytestmark = [pytest.mark.servers, pytest.mark.root]


async def codes(settings: ClusterSettings) -> list[str]:
    return [finding.code async for finding in cluster_findings(settings)]


async def test_findings(valkey: Valkey) -> None:
    """An account that may do everything, a server that throws the stream away, or forgets it, is named."""
    settings = ClusterSettings(url=valkey.url)
    assert await codes(settings) == ["cluster_persistence", "cluster_account"]
    valkey.run("CONFIG", "SET", "maxmemory", "100mb", "maxmemory-policy", "allkeys-lru")
    valkey.run("CONFIG", "SET", "appendonly", "yes")
    assert await codes(settings) == ["cluster_eviction", "cluster_account"]
    shares = replace(settings, second_level=True)
    assert await codes(shares) == ["cluster_eviction", "cluster_account"]
    most = int(valkey.run("INFO", "memory")["used_memory"] * 1.1)
    valkey.run("CONFIG", "SET", "maxmemory-policy", "noeviction", "maxmemory", most)
    assert await codes(shares) == ["cluster_full", "cluster_account"]
    assert await codes(settings) == ["cluster_account"]
    valkey.run("CONFIG", "SET", "maxmemory", "0", "maxmemory-policy", "allkeys-lru")
    valkey.run("CONFIG", "SET", "requirepass", "secret")
    [finding] = [finding async for finding in cluster_findings(settings)]
    assert "ACL SETUSER mailmapd" in finding.remedy
    assert await codes(ClusterSettings(url="unix:/nowhere")) == ["cluster"]
    remote = ClusterSettings(url="redis://192.0.2.1:1/0")
    assert (await codes(remote))[0] == "cluster_plain"


@pytest.mark.parametrize("shares", [False, True], ids=["alone", "second level"])
async def test_least_account(
    database: MariaDB, kind: Kind, tmp_path: Path, shares: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The line that `check` prints makes an account with which a host does all it must, and nothing else is allowed."""
    monkeypatch.setattr(exchange, "DEADLINE", 10.0)
    with private_directory() as folder, Valkey(folder, kind=kind) as server:
        line = acl_line(ClusterSettings(user="mail", stream="mailmapd", second_level=shares))
        assert ("shared" in line) == shares
        assert server.run(*line.replace("PASSWORD", "secret").split()) in (b"OK", True)
        login = 'user = "mail"\npassword = "secret"\n' + (SECOND_LEVEL if shares else "")
        async with fleet(
            database, server.url, tmp_path, ["mx1", "mx2"], {"mx1"}, more=login
        ) as hosts:
            mx2 = hosts["mx2"]
            await (mx2.shares() if shares else mx2.watched())
            await mx2.ask("alias", b"a@example.com")
            if shares:
                await until(lambda: mx2.second.exchange.counts["filled"] == 1)
                mx2.second.exchange.throw_away(b"mailmapd:shared:a:nothing")
                await until(lambda: not is_busy(mx2.second.exchange))
                applied = [Invalidation("alias", frozenset({b"a@example.com"}))]
                await hosts["mx1"].bus.flush({"all": True}, [*applied, Invalidation("of_domain")])
            identity = await hosts["mx1"].bus.flush({"user": "a@example.com"})
            assert await hosts["mx1"].bus.reports.unconfirmed(identity, 5.0) == []
            assert not mx2.held("alias", b"a@example.com")
        settings = ClusterSettings(
            url=server.url, user="mail", password="secret", second_level=shares
        )
        assert await codes(settings) == ["cluster_persistence"]
        denied = [entry for entry in server.run("ACL", "LOG") if "config" not in str(entry)]
        assert denied == []
        if not shares:
            # The account of a fleet that shared nothing until now
            [finding] = [
                finding async for finding in cluster_findings(replace(settings, second_level=True))
            ]
            assert "+evalsha" in finding.remedy


async def test_tls_and_password_file(database: MariaDB, tmp_path: Path) -> None:
    """The password comes from a file, the server's certificate from the authority that is named, or nothing is said."""
    with private_directory() as folder:
        files = make_certificates(folder)
        port = free_port()
        options = ["--port", "0", "--tls-port", str(port), "--requirepass", "secret"]
        options += ["--tls-cert-file", str(files.server), "--tls-key-file", str(files.server_key)]
        options += ["--tls-ca-cert-file", str(files.ca)]
        for name in ("mx1", "mx2"):
            (tmp_path / name).mkdir()
            (tmp_path / name / "password").write_text("secret\n")
        tls = f'ca = "{files.ca}", cert = "{files.client}", key = "{files.client_key}"'
        more = f'password_file = "password"\ntls = {{{tls}}}\n'
        url = f"rediss://127.0.0.1:{port}/0"
        with Valkey(folder / "valkey", settings=options):
            async with fleet(database, url, tmp_path, ["mx1", "mx2"], {"mx1"}, more=more) as hosts:
                await hosts["mx2"].watched()
                settings = hosts["mx2"].plan.cluster
            assert settings is not None
            assert "secret" not in repr(settings)
            stranger = replace(settings, tls=None)
            [finding] = [found async for found in cluster_findings(stranger)]
            assert "certificate" in finding.problem.lower()
            wrong = replace(settings, password="other")
            [finding] = [found async for found in cluster_findings(wrong)]
            assert "WRONGPASS" in finding.problem or "password" in finding.problem
            assert "other" not in finding.problem
