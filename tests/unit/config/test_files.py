"""What the configuration names, found by the types of the schema."""

from __future__ import annotations

from pathlib import Path

from mailmapd.config.files import path_beside, values_of
from mailmapd.config.loader import parse_config
from mailmapd.config.schema import Config, FileName, FileWithSecret, Secret, SecretFile
from support.schema_keys import keys_of, keys_of_kind

SECRET_ENDS = ("password_file", "key_file", "token_file", "secret_file", "credential")
SECRET_NAMES = ("password", "token", "secret_key")
MAY_HOLD = ("key", "option_file", "postfix_cf", "dovecot_sql")


def test_names_and_kinds_of_secrets_agree() -> None:
    """A key whose name says that it is a secret, or the file of one, has the type by which `check` finds it."""
    ends = [where for where, _ in keys_of(Config) if where.endswith(SECRET_ENDS)]
    assert len(ends) >= 6
    assert ends == keys_of_kind(Config, SecretFile)
    last = {where: where.rpartition(".")[2] for where, _ in keys_of(Config)}
    assert [where for where in last if last[where] in SECRET_NAMES] == keys_of_kind(Config, Secret)
    assert [where for where in last if last[where] in MAY_HOLD] == keys_of_kind(
        Config, FileWithSecret
    )


def test_every_file_has_the_type_of_one() -> None:
    """A key that names a file of any other sort has that type, too."""
    words = ("file", "path", "directory", "ca", "capath", "cert", "public_key")
    named = [where for where, _ in keys_of(Config) if where.endswith(words)]
    named = [
        where for where in named if not where.endswith(("get_server_public_key", "auth_master"))
    ]
    kinds = {
        where
        for kind in (FileName, SecretFile, FileWithSecret)
        for where in keys_of_kind(Config, kind)
    }
    assert set(named) - {"file"} <= kinds


def test_values_of() -> None:
    """What is set is found with its key, in sections with names as well, and what is not set is not."""
    text = """
[listen]
webhook = "127.0.0.1:1"
webhook_token_file = "token"
[database.mail]
driver = "mysql"
password_file = "a"
tls = {ca = "b"}
[database.mail.changes]
user = "u"
password_file = "c"
"""
    config = parse_config(text, "mailmapd.toml")
    assert dict(values_of(config, SecretFile)) == {
        "listen.webhook_token_file": "token",
        "database.mail.password_file": "a",
        "database.mail.changes.password_file": "c",
    }
    assert ("database.mail.tls.ca", "b") in list(values_of(config, FileName))


def test_relative_names(tmp_path: Path) -> None:
    """A relative name is meant from the folder in which the configuration was named, also by a link."""
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "mailmapd.toml").touch()
    link = tmp_path / "mailmapd.toml"
    link.symlink_to("real/mailmapd.toml")
    assert path_beside(str(link), "secret") == tmp_path / "secret"
    assert path_beside(str(link), "/secret") == Path("/secret")
