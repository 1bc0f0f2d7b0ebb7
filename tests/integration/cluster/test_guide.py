"""docs/fleet.md, followed to the letter: from one host to three."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from redis.exceptions import RedisError

from mailmapd.check.cluster import acl_line
from mailmapd.cluster.settings import ClusterSettings
from support.daemon import Daemon
from support.fleet import TABLES, configuration
from support.guide import blocks, page
from support.mariadb import MariaDB, private_directory
from support.process import free_port, wait_until
from support.valkey import Valkey

pytestmark = [pytest.mark.servers, pytest.mark.root]

PASSWORD = "what the administrator chose"


class Guide:
    """The blocks of the page, by language, in order."""

    def __init__(self) -> None:
        found = [(kind, text) for kind, text in blocks(page("fleet"))]  # fmt: skip
        self.toml = [text.strip() for kind, text in found if kind == "toml"]
        self.text = [text.strip() for kind, text in found if kind == "text"]
        [self.conf] = [text for kind, text in found if kind == "conf"]
        [self.prompt] = [text.strip() for kind, text in found if text.startswith("redis-cli")]
        [self.certificate] = [text for kind, text in found if text.startswith("openssl req")]


@pytest.fixture(scope="module")
def guide() -> Guide:
    return Guide()


@pytest.fixture
def folder() -> Iterator[Path]:
    with private_directory() as path:
        yield path


def _here(text: str, folder: Path) -> str:
    """Return the page's text with its files in a folder of this machine's."""
    for place in ("/etc/redis/", "/etc/ssl/certs/"):
        assert place in text
        text = text.replace(place, f"{folder}/")
    return text


def _server(guide: Guide, folder: Path, port: int) -> Valkey:
    """Return a server with the page's certificate, made for this machine, and the page's lines in its file."""
    make = _here(guide.certificate, folder).replace("DNS:cache.example.net", "IP:127.0.0.1")
    lines = [line for line in make.splitlines() if not line.startswith("chown redis:")]
    assert len(lines) == 2
    subprocess.run(["sh", "-ec", "\n".join(lines)], check=True, capture_output=True)
    file = folder / "redis.conf"
    file.write_text(_here(guide.conf, folder).replace("tls-port 6379", f"tls-port {port}"))
    return Valkey(folder / "valkey", file=file)


def test_account(guide: Guide) -> None:
    """The page shows the line that `check` prints."""
    [lines] = guide.text
    assert lines.splitlines()[0] == acl_line(ClusterSettings(user="mailmapd"))


def test_from_one_host_to_three(
    guide: Guide, folder: Path, database: MariaDB, tmp_path: Path
) -> None:
    """With the page's own sections three hosts find each other, keep for long, and forget together."""
    port = free_port()
    authority = str(folder / "cache-ca.pem")
    cluster, follower, reader, *_ = guide.toml
    assert "[cluster]" in cluster
    assert 'follow = "yes"' in follower
    assert 'follow = "no"' in reader
    cluster = cluster.replace("cache.example.net:6379", f"127.0.0.1:{port}")
    cluster = cluster.replace("/etc/ssl/certs/cache-ca.pem", authority)
    follower = follower.replace("mailmapd-changes", "replica")
    with ExitStack() as stack:
        valkey = stack.enter_context(_server(guide, folder, port))
        # The two lines at the prompt, which are kept: the server knows the account after a restart.
        command = guide.prompt.split()
        command = [authority if word.endswith(".pem") else word for word in command]
        lines = guide.text[0].replace(">PASSWORD", f'">{PASSWORD}"')
        done = subprocess.run(
            [*command, "-p", str(port)], input=lines, capture_output=True, text=True, check=True
        )
        assert done.stdout.split() == ["OK"] * 3, done.stdout
        with pytest.raises(RedisError):
            valkey.run("PING")
        valkey.stop()
        valkey.start()
        daemons: dict[str, Daemon] = {}
        for name in ("mx1", "mx2", "mx3"):
            own = tmp_path / name
            own.mkdir()
            (own / "cluster-password").write_text(PASSWORD)
            (own / "mail-db-changes-password").write_text("follow it")
            for secret in own.glob("*-password"):
                secret.chmod(0o600)
            # All hosts of this test are one machine, so each needs the other name that the page speaks of.
            sections = f'{cluster}\nhost = "{name}"\n{reader if name == "mx3" else follower}\n'
            text = configuration(own, f'"unix:{database.socket}"', TABLES, sections)
            daemons[name] = stack.enter_context(Daemon(own, text))

        def rows() -> list[str]:
            done = daemons["mx1"].command("stats", "--cluster")
            return re.findall(r"^(mx\d)", done.stdout, re.MULTILINE)

        wait_until(lambda: rows() == ["mx1", "mx2", "mx3"], "the hosts do not find each other")

        def watched() -> bool:
            text = daemons["mx3"].command("stats").stdout
            return re.search(r"^mx3 +yes +mx1, mx2 +2 ", text, re.MULTILINE) is not None

        wait_until(watched, "mx3 does not keep its tables for long")
        done = daemons["mx3"].command("check")
        assert "cluster" not in done.stdout + done.stderr, "nothing is to be said of the server"
        with daemons["mx3"].socketmap() as client:
            assert client.ask("alias", b"a@example.com").value == b"one"
        database.run_sql("UPDATE t.alias SET goto = 'new' WHERE address = 'a@example.com'")

        def knows() -> bool:
            with daemons["mx3"].socketmap() as client:
                return client.ask("alias", b"a@example.com").value == b"new"

        wait_until(knows, "mx3 has not heard of it", 5)
        done = daemons["mx3"].command("flush", "--user", "a@example.com", "--wait", "5s")
        assert done.stdout.splitlines()[-1] == "confirmed by every host"
