"""An authority that is named is used: what the real clients refuse, no way into the configuration lets through."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest

from mailmapd.config.loader import load_config
from mailmapd.databases.settings import MysqlSettings
from mailmapd.errors import DatabaseUnavailable
from mailmapd.formats.postfix_cf import read_postfix_cf
from mailmapd.importers import toml_writer
from mailmapd.importers.postfix.plan import plan_import
from mailmapd.plan.databases import cf_settings, section_settings
from support.authority import Authority, self_signed
from support.mariadb import MariaDB, private_directory
from support.mysql_lookups import Connect, statement
from support.postfix import Postfix

pytestmark = pytest.mark.servers

USER, PASSWORD, DBNAME = "tls", "secret", "lookups"


class World(NamedTuple):
    """A server whose certificate changes, one without any, authorities, and a Postfix to ask its own client."""

    server: MariaDB
    plain: MariaDB
    folder: Path
    ours: Authority
    foreign: Authority
    postfix: Postfix


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with (
        private_directory() as folder,
        private_directory() as data,
        private_directory() as bare,
        private_directory() as instance,
    ):
        ours, foreign = Authority(folder, "ours"), Authority(folder, "foreign")
        ours.issue("127.0.0.1").write(folder / "server.pem", folder / "server.key")
        files = (ours.file, folder / "server.pem", folder / "server.key")
        with MariaDB(data, tcp=True, tls=files) as server, MariaDB(bare, tcp=True) as plain:
            for each in (server, plain):
                each.run_sql(f"CREATE DATABASE {DBNAME}")
                each.grant(USER, PASSWORD, DBNAME)
            yield World(server, plain, folder, ours, foreign, Postfix(instance, {}))


class Case(NamedTuple):
    """A case: which certificate the server shows, which authority is named, and whether the name is to be checked."""

    certificate: str
    authority: str
    verify: bool


CASES = {
    "right authority": Case("right", "ours", False),
    "right authority and name": Case("right", "ours", True),
    "wrong authority": Case("right", "foreign", False),
    "wrong name, not to be checked": Case("other name", "ours", False),
    "wrong name": Case("other name", "ours", True),
    "expired": Case("expired", "ours", False),
    "self-signed": Case("self-signed", "ours", False),
    "self-signed, and named itself": Case("self-signed", "server", False),
    "no TLS, name to be checked": Case("none", "ours", True),
    "no TLS": Case("none", "ours", False),
}
REFUSED_BY_US_ALONE = {"no TLS"}
"""The client library logs in unencrypted there: docs/compatibility.md says so."""


def show(world: World, certificate: str) -> MariaDB:
    """Have the server show a certificate from now on."""
    if certificate == "none":
        return world.plain
    made = {
        "right": lambda: world.ours.issue("127.0.0.1"),
        "other name": lambda: world.ours.issue("127.0.0.9"),
        "expired": lambda: world.ours.issue("127.0.0.1", days=-1),
        "self-signed": lambda: self_signed("127.0.0.1"),
    }[certificate]()
    made.write(world.folder / "server.pem", world.folder / "server.key")
    world.server.run_sql("FLUSH SSL")
    return world.server


def write_files(world: World, case: Case, server: MariaDB) -> None:
    """Write the same wish as Postfix, the client library and we would have it said."""
    authority = world.folder / f"{case.authority}.pem"
    verify = "yes" if case.verify else "no"
    account = f"user = {USER}\npassword = {PASSWORD}\n"
    hosts = f"hosts = 127.0.0.1:{server.port}\n"
    tail = f"dbname = {DBNAME}\nquery = SELECT '%s'\n"
    option_verify = "ssl-verify-server-cert = 1\n" if case.verify else ""
    files = {
        "named.cf": hosts
        + account
        + tail
        + f"tls_CAfile = {authority}\ntls_verify_cert = {verify}\n",
        "folder.cf": hosts
        + account
        + tail
        + f"tls_CApath = {folder_of(authority)}\ntls_verify_cert = {verify}\n",
        "named.cnf": f"[client]\n{account}ssl-ca = {authority}\n{option_verify}",
        "by-option.cf": hosts + tail + f"option_file = {world.folder}/named.cnf\n{account}",
        "half.cf": hosts
        + account
        + tail
        + f"option_file = {world.folder}/named.cnf\ntls_ciphers = DEFAULT\n",
        "mailmapd.toml": f'[database.m]\ndriver = "mysql"\nhosts = ["127.0.0.1:{server.port}"]\n'
        f'user = "{USER}"\npassword = "{PASSWORD}"\ndbname = "{DBNAME}"\n'
        f'tls = {{ca = "{authority}", verify = {str(case.verify).lower()}}}\n',
        "main.cf": f"virtual_alias_maps = mysql:{world.folder}/named.cf\n",
        "master.cf": "smtp inet n - n - - smtpd\n",
    }
    for name, text in files.items():
        (world.folder / name).write_text(text)


def folder_of(authority: Path) -> Path:
    """Return a folder with an authority in it, as OpenSSL looks for it."""
    folder = authority.with_suffix(".d")
    folder.mkdir(exist_ok=True)
    shutil.copy(authority, folder)
    subprocess.run(["openssl", "rehash", folder], check=True)
    return folder


def our_ways(folder: Path) -> dict[str, MysqlSettings]:
    """Return the settings that every way into the configuration makes of it."""
    imported = plan_import(folder, use_postconf=False, keep_cf=False)
    toml_writer.write(imported.draft, folder / "imported.toml", overwrite=True)
    files = {
        "TOML": section_settings(load_config(str(folder / "mailmapd.toml")), "m"),
        ".cf": cf_settings(read_postfix_cf(folder / "named.cf")),
        ".cf, folder": cf_settings(read_postfix_cf(folder / "folder.cf")),
        ".cf and option file": cf_settings(read_postfix_cf(folder / "half.cf")),
        "option file": cf_settings(read_postfix_cf(folder / "by-option.cf")),
    }
    config = load_config(str(folder / "imported.toml"))
    files["import"] = section_settings(config, next(iter(config.databases)))
    return {
        way: replace(settings, connect_timeout=10.0)
        for way, settings in files.items()
        if isinstance(settings, MysqlSettings)
    }


async def lets_in(connect: Connect, settings: MysqlSettings) -> bool:
    database = connect(settings)
    try:
        return bool((await database.fetch(statement("SELECT 1"))).rows)
    except DatabaseUnavailable as error:
        if "TLS" in str(error):
            return False
        raise
    finally:
        await database.close()


def asked(world: World, server: MariaDB) -> dict[str, bool]:
    """Return whom the real clients let in."""
    by_cf = world.postfix.postmap(f"mysql:{world.folder}/named.cf", [b"key"])
    by_option = world.postfix.postmap(f"mysql:{world.folder}/by-option.cf", [b"key"])
    command = ["mariadb", f"--defaults-file={world.folder}/named.cnf", "--protocol=tcp"]
    command += ["-h", "127.0.0.1", "-P", str(server.port), "-e", "SELECT 1"]
    client = subprocess.run(command, check=False, capture_output=True)
    return {
        "postmap": b"key" in by_cf.found,
        "postmap, option file": b"key" in by_option.found,
        "mariadb": client.returncode == 0,
    }


@pytest.mark.root
@pytest.mark.parametrize("name", CASES)
async def test_as_the_real_clients(world: World, connect: Connect, name: str) -> None:
    """Every way into the configuration lets in whom postmap and the mariadb client let in, and
    refuses whom they refuse.
    """
    case = CASES[name]
    server = show(world, case.certificate)
    write_files(world, case, server)
    theirs = await asyncio.to_thread(asked, world, server)
    ours = {way: await lets_in(connect, made) for way, made in our_ways(world.folder).items()}
    assert len(ours) == 6
    assert len(set(ours.values())) == 1, ours
    assert len(set(theirs.values())) == 1, theirs
    if name in REFUSED_BY_US_ALONE:
        assert set(theirs.values()) == {True}
        assert set(ours.values()) == {False}
    else:
        assert set(ours.values()) == set(theirs.values())
