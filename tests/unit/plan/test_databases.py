"""From sections of the configuration to the settings of databases."""

from __future__ import annotations

from pathlib import Path

import pytest

from mailmapd.config.loader import load_config
from mailmapd.databases.settings import MysqlSettings, SqliteSettings, TlsSettings
from mailmapd.formats.postfix_cf import read_postfix_cf
from mailmapd.plan.databases import cf_settings, section_settings

CONFIG = """
[database.file]
driver = "sqlite"
path = "mail.sqlite"
[database.server]
driver = "mysql"
option_file = "my.cnf"
tls = {ca = "ca.pem", key = "/etc/key.pem"}
"""


def test_relative_file_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Relative file names are meant from the configuration's folder, not from where the command is started."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "mailmapd.toml").write_text(CONFIG)
    monkeypatch.chdir(tmp_path)
    config = load_config("etc/mailmapd.toml")
    assert section_settings(config, "file") == SqliteSettings(
        path=f"{tmp_path}/etc/mail.sqlite", readers=4
    )
    server = section_settings(config, "server")
    assert isinstance(server, MysqlSettings)
    assert server.option_file == f"{tmp_path}/etc/my.cnf"
    assert server.tls == TlsSettings(ca=f"{tmp_path}/etc/ca.pem", key="/etc/key.pem")


def test_one_copy_of_every_default(tmp_path: Path) -> None:
    """A .cf file of Postfix gets what a section that says the same gets, pool, deadlines and readers included."""
    mysql, sqlite = tmp_path / "mysql.cf", tmp_path / "sqlite.cf"
    mysql.write_text("hosts = db.example.net\nuser = mail\ndbname = mail\nquery = SELECT 1\n")
    sqlite.write_text("dbpath = /var/mail.sqlite\nquery = SELECT 1\n")
    (tmp_path / "mailmapd.toml").write_text(
        '[database.m]\ndriver = "mysql"\nhosts = ["db.example.net"]\nuser = "mail"\ndbname = "mail"\n'
        '[database.s]\ndriver = "sqlite"\npath = "/var/mail.sqlite"\n'
    )
    config = load_config(str(tmp_path / "mailmapd.toml"))
    assert cf_settings(read_postfix_cf(mysql)) == section_settings(config, "m")
    assert cf_settings(read_postfix_cf(sqlite)) == section_settings(config, "s")
