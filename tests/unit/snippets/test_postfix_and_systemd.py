"""Snippets for Postfix, systemd and Prometheus, from an actual configuration."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from mailmapd.config.loader import parse_config
from mailmapd.config.schema import Config
from mailmapd.errors import ConfigError
from mailmapd.snippets.postfix import postfix, queue_directory_of
from mailmapd.snippets.program import Program
from mailmapd.snippets.prometheus import prometheus
from mailmapd.snippets.systemd import systemd

TABLES = """
[database.mail]
driver = "mysql"
password_file = "other-secret"
[table.a]
database = "mail"
query = "SELECT 1 FROM x WHERE a = '%s'"
[map.virtual_alias_maps]
tables = ["a"]
search = "exact"
[map.virtual_mailbox_maps]
tables = ["a"]
search = "address"
[map.check_recipient_access]
tables = ["a"]
search = "access"
[map.mine]
tables = ["a"]
"""


def config(listen: str, file: str = "/etc/mailmapd/mailmapd.toml") -> Config:
    """Return a configuration with these listeners."""
    return parse_config(f"[listen]\n{listen}\n{TABLES}", file)


@pytest.mark.parametrize(
    ("address", "table"),
    [
        ("unix:/var/spool/postfix/mailmapd/socketmap", "socketmap:unix:mailmapd/socketmap"),
        ("unix:/run/mailmapd/socketmap", "socketmap:unix:/run/mailmapd/socketmap"),
        ("127.0.0.1:2552", "socketmap:inet:127.0.0.1:2552"),
    ],
)
def test_tables_name_the_socket_as_postfix_finds_it(address: str, table: str) -> None:
    """A socket below the queue directory is named relative to it; maps that leave the search to Postfix are wrapped."""
    text = postfix(config(f'socketmap = ["{address}"]'))
    assert f"postconf -e 'virtual_mailbox_maps = {table}:virtual_mailbox_maps'" in text
    assert (
        f"postconf -e 'virtual_alias_maps = unionmap:{{texthash:/dev/null,{table}:virtual_alias_maps}}'"
        in text
    )
    assert f"#   check_recipient_access {table}:check_recipient_access" in text
    assert f"#   {table}:mine" in text
    assert "virtual_transport = lmtp:" in text
    assert ("chrooted" in text) is (address == "unix:/run/mailmapd/socketmap")


def test_socket_below_another_queue_directory(tmp_path: Path) -> None:
    """Where Postfix keeps its queue elsewhere, a socket below that place is one that chrooted services find."""
    assert queue_directory_of(tmp_path) == "/var/spool/postfix"
    (tmp_path / "main.cf").write_text("queue_directory = /srv/queue\n")
    listen = 'socketmap = ["unix:/srv/queue/mailmapd/socketmap"]'
    text = postfix(config(listen), queue_directory_of(tmp_path))
    assert "socketmap:unix:mailmapd/socketmap:virtual_mailbox_maps'" in text
    assert "chrooted" not in text


def test_a_shell_takes_the_lines() -> None:
    """Every snippet for a shell is valid shell."""
    listen = (
        'socketmap = ["unix:/var/spool/postfix/mailmapd/socketmap"]\nhttp = '
        '"127.0.0.1:9999"\ncontrol = "unix:/srv/x/control"'
    )
    for text in (postfix(config(listen)), systemd(config(listen, "/srv/x/mailmapd.toml"))):
        assert subprocess.run(["sh", "-n"], input=text, text=True, check=False).returncode == 0
        assert "# Undo:" in text


def test_systemd_follows_the_configuration() -> None:
    """Only configured sockets get units; other addresses, files, secrets and folders get drop-ins."""
    listen = (
        'socketmap = ["unix:/var/spool/postfix/mailmapd/socketmap"]\nhttp = '
        '"127.0.0.1:9999"\ncontrol = "unix:/srv/x/control"'
    )
    text = systemd(config(listen, "/srv/x/mailmapd.toml"), Program())
    assert (
        "systemctl enable --now mailmapd.socket mailmapd-http.socket mailmapd-control.socket"
        in text
    )
    assert "[Socket]\nListenStream=\nListenStream=127.0.0.1:9999" in text
    assert "ExecStart=\nExecStart=/usr/bin/mailmapd serve --config /srv/x/mailmapd.toml" in text
    assert "LoadCredential=other-secret" in text
    assert "ReadWritePaths=-/srv/x" in text
    assert "mailmapd.socket.d" not in text


def test_sockets_are_for_whom_the_configuration_says() -> None:
    """Systemd's socket gets the group, owner and mode that [listen] names, and every address of its listener."""
    usual = '{address = "unix:/var/spool/postfix/mailmapd/socketmap", group = "postfix"}'
    assert "mailmapd.socket.d" not in systemd(config(f"socketmap = [{usual}]"), Program())
    other = '{address = "unix:/srv/queue/mailmapd/socketmap", group = "mta", mode = "0666"}'
    text = systemd(config(f"socketmap = [{other}, {usual}]"), Program())
    streams = [
        f"ListenStream={queue}/mailmapd/socketmap" for queue in ("/srv/queue", "/var/spool/postfix")
    ]
    lines = "\n".join(["[Socket]", "ListenStream=", *streams, "SocketGroup=mta", "SocketMode=0666"])
    assert f"cat >/etc/systemd/system/mailmapd.socket.d/local.conf <<'END'\n{lines}\nEND" in text


def test_every_secret_is_handed_over() -> None:
    """The service loads every secret that the unit does not know of, and may write to the state's folder."""
    sections = (
        '[database.other]\ndriver = "mysql"\n[database.other.changes]\nuser = "c"\npassword_file = "of-changes"\n'
        '[cluster]\nurl = "unix:/x"\npassword_file = "cluster-password"\nkey_file = "of-cluster"\n'
        '[state]\ndirectory = "/srv/mailmapd"\n'
    )
    listen = 'webhook = "127.0.0.1:9781"\nwebhook_token_file = "of-webhook"\n'
    text = systemd(config(f"{listen}{sections}"), Program())
    drop_in = text.partition("mailmapd.service.d/local.conf")[2].partition("\nEND")[0]
    found = [line for line in drop_in.splitlines() if "=" in line]
    names = ("of-changes", "of-cluster", "of-webhook", "other-secret")
    assert found == [*(f"LoadCredential={name}" for name in names), "ReadWritePaths=-/srv/mailmapd"]


def test_units_follow_the_program() -> None:
    """The units start the program of this virtual environment, which their sandbox lets run and see."""
    listen = 'socketmap = ["unix:/var/spool/postfix/mailmapd/socketmap"]'
    venv = Program("/srv/venv/bin/mailmapd", ("/srv/venv", "/usr"))
    text = systemd(config(listen), venv)
    assert "ExecStart=/srv/venv/bin/mailmapd serve --config /etc/mailmapd/mailmapd.toml" in text
    assert "ExecReload=/srv/venv/bin/mailmapd reload --config" in text
    assert "[Service]\nExecPaths=/srv/venv\n" in text
    assert "/usr/bin/mailmapd" not in text
    tool = Program("/root/.local/share/uv/tools/mailmapd/bin/mailmapd", ("/root/.local/share/uv",))
    text = systemd(config(listen), tool)
    homes = "ProtectHome=no\nTemporaryFileSystem=/home:ro /root:ro /run/user:ro\n"
    assert f"{homes}BindReadOnlyPaths=/root/.local/share/uv" in text
    text = systemd(config(listen), Program("/var/tmp/venv/bin/mailmapd", ("/var/tmp/venv",)))
    assert "[Service]\nExecPaths=/var/tmp/venv\nBindReadOnlyPaths=/var/tmp/venv\n" in text
    assert "/bin/mailmapd serve" in systemd(config(listen))


def test_prometheus_has_the_configured_address() -> None:
    """The scrape job asks where the daemon listens."""
    assert 'targets: ["127.0.0.1:9999"]' in prometheus(config('http = "127.0.0.1:9999"'))


def test_what_is_not_served_is_a_clear_fault(tmp_path: Path) -> None:
    """Without a socketmap or HTTP address the snippets say what to write."""
    bare = parse_config(TABLES, str(tmp_path / "m.toml"))
    with pytest.raises(ConfigError, match=r"listen.socketmap: is empty.*write socketmap = "):
        postfix(bare)
    with pytest.raises(
        ConfigError, match=r'listen.http: is no TCP address; write http = "127.0.0.1:9780"'
    ):
        prometheus(bare)
