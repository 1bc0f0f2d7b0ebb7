"""Socketmap tables of main.cf and the sockets of [listen]: the same place, as each program of Postfix sees it."""

from __future__ import annotations

import os
import pwd
import socket
from pathlib import Path

import pytest

from mailmapd.check.finding import Finding
from mailmapd.check.postfix_traps import postfix_findings
from mailmapd.check.socket_paths import account_findings
from mailmapd.config.loader import parse_config
from mailmapd.sockets import access_list

QUEUE = "/nowhere/queue"
INSIDE = "unix:mailmapd/socketmap:m"
MASTER = "smtp inet n - {} - - smtpd\ncleanup unix n - {} - 0 cleanup\n"


def found(
    folder: Path, value: str, listen: str, *, chroot: str = "y", queue: str = QUEUE
) -> list[Finding]:
    """Return what is wrong when virtual_alias_maps asks `value`."""
    config = parse_config(
        f"[listen]\nsocketmap = {listen}\n"
        '[database.d]\ndriver = "sqlite"\npath = "/x"\n'
        '[table.t]\ndatabase = "d"\nquery = "SELECT 1 FROM t WHERE a = \'%s\'"\n'
        '[map.m]\ntables = ["t"]\nsearch = "address"\npropagate_unmatched_extensions = true\n',
        "mailmapd.toml",
    )
    (folder / "main.cf").write_text(
        f"queue_directory = {queue}\nmydestination =\nmyhostname = mx.example.net\n"
        f"virtual_transport = lmtp:unix:x\nvirtual_alias_maps = {value}\n"
    )
    (folder / "master.cf").write_text(MASTER.format(chroot, chroot))
    return [
        finding
        for finding in postfix_findings(config, folder)
        if finding.code not in ("propagation", "local_domains")
    ]


@pytest.mark.parametrize(
    ("value", "listen", "chroot"),
    [
        (f"socketmap:{INSIDE}", f'["unix:{QUEUE}/mailmapd/socketmap"]', "y"),
        (f"socketmap:{INSIDE}", f'["unix:{QUEUE}/mailmapd/socketmap"]', "n"),
        (
            f"proxy:socketmap:unix:{QUEUE}/mailmapd/socketmap:m",
            f'["unix:{QUEUE}/mailmapd/socketmap"]',
            "y",
        ),
        ("proxy:socketmap:unix:/run/mailmapd/socketmap:m", '["unix:/run/mailmapd/socketmap"]', "y"),
        ("socketmap:unix:/run/mailmapd/socketmap:m", '["unix:/run/mailmapd/socketmap"]', "n"),
        ("socketmap:inet:127.0.0.1:2552:m", '["127.0.0.1:2552"]', "y"),
        ("socketmap:inet:localhost:2552:m", '["127.0.0.1:2552"]', "y"),
        ("socketmap:inet:tlspol.example:8642:QUERY", '["127.0.0.1:2552"]', "y"),
        ("socketmap:unix:run/postfix-mta-sts:postfix", '["127.0.0.1:2552"]', "y"),
        ("socketmap:inet:127.0.0.1:8461:postfix", '["127.0.0.1:2552"]', "y"),
    ],
)
def test_what_agrees_and_what_is_not_ours(
    tmp_path: Path, value: str, listen: str, chroot: str
) -> None:
    """A table that reaches mailmapd is fine, and a server of somebody else is none of our business."""
    assert found(tmp_path, value, listen, chroot=chroot) == []


@pytest.mark.parametrize(
    ("asked", "code", "problem", "remedy"),
    [
        (
            (
                "socketmap:unix:/run/mailmapd/socketmap:m",
                f'["unix:{QUEUE}/mailmapd/socketmap"]',
                "n",
            ),
            "socket_path",
            "asks /run/mailmapd/socketmap, where mailmapd does not listen",
            "socketmap:unix:mailmapd/socketmap:m",
        ),
        (
            ("socketmap:unix:/run/mailmapd/socketmap:m", '["unix:/run/mailmapd/socketmap"]', "y"),
            "socket_chroot",
            f"asks /run/mailmapd/socketmap; cleanup and smtpd, chrooted in {QUEUE}, would look for {QUEUE}/run/mailmapd/socketmap",
            f'[listen] socketmap = ["unix:{QUEUE}/mailmapd/socketmap"], and in main.cf socketmap:{INSIDE}',
        ),
        (
            (f"socketmap:{INSIDE}", '["unix:/var/spool/other/mailmapd/socketmap"]', "y"),
            "socket_path",
            f"asks {QUEUE}/mailmapd/socketmap, where mailmapd does not listen",
            f'[listen] socketmap = ["unix:{QUEUE}/mailmapd/socketmap"], and in main.cf socketmap:{INSIDE}',
        ),
        (
            ("proxy:socketmap:unix:/run/x:m", '["unix:/run/mailmapd/socketmap"]', "y"),
            "socket_path",
            "asks /run/x, where mailmapd does not listen",
            "proxy:socketmap:unix:/run/mailmapd/socketmap:m",
        ),
        (
            ("socketmap:inet:127.0.0.1:2553:m", '["127.0.0.1:2552"]', "y"),
            "socket_path",
            "asks 127.0.0.1:2553, where mailmapd does not listen",
            "mailmapd listens at 127.0.0.1:2552",
        ),
    ],
)
def test_what_does_not_reach_mailmapd(
    tmp_path: Path, asked: tuple[str, str, str], code: str, problem: str, remedy: str
) -> None:
    """A path that nobody serves is a fault, for each program as it sees the path, with what to write."""
    value, listen, chroot = asked
    findings = found(tmp_path, value, listen, chroot=chroot)
    assert [(finding.code, finding.remedy) for finding in findings] == [(code, remedy)]
    assert findings[0].problem.startswith(problem)


@pytest.mark.parametrize(("level", "codes"), [("", ["socket_chroot"]), ("3.6", [])])
def test_chroot_of_an_old_master_cf(tmp_path: Path, level: str, codes: list[str]) -> None:
    """A dash in the chroot column means chrooted until compatibility level 1."""
    asked = "socketmap:unix:/run/mailmapd/socketmap:m"
    if level:
        asked += f"\ncompatibility_level = {level}"
    findings = found(tmp_path, asked, '["unix:/run/mailmapd/socketmap"]', chroot="-")
    assert [finding.code for finding in findings] == codes


def test_socket_that_postfix_may_not_use(short_path: Path) -> None:
    """A socket that is there and closed to Postfix's own user is a fault, and an open one is none."""
    path = short_path / "mailmapd" / "socketmap"
    path.parent.mkdir()
    for folder in (short_path, path.parent):
        folder.chmod(0o755)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        path.chmod(0o660)
        asked = ("socketmap:unix:mailmapd/socketmap:m", f'["unix:{path}"]')
        closed = found(short_path, *asked, queue=str(short_path))
        assert [finding.code for finding in closed] == ["socket_access"]
        assert closed[0].problem.endswith(f"{path} is {pwd.getpwuid(os.getuid()).pw_name}:root 660")
        path.chmod(0o666)
        assert found(short_path, *asked, queue=str(short_path)) == []
        path.parent.chmod(0o700)
        closed = found(short_path, *asked, queue=str(short_path))
        assert f"the folder {path.parent} is " in closed[0].problem


def test_groups_and_owners_that_are_not_there() -> None:
    """A group or owner of a socket that this host does not have is a fault, once; numbers are taken as they are."""
    config = parse_config(
        '[listen]\ndict = [{address = "unix:/run/a", group = "nosuchgroup"}]\n'
        'http = {address = "unix:/run/b", group = "nosuchgroup"}\n'
        'control = {address = "unix:/run/c", owner = "nosuchuser", group = "12345"}\n'
        'socketmap = [{address = "unix:/run/d", group = "root"}]\n',
        "mailmapd.toml",
    )
    assert [
        (finding.where, finding.problem.partition(",")[0]) for finding in account_findings(config)
    ] == [
        ("listen: unix:/run/a", "there is no group nosuchgroup on this host"),
        ("listen: unix:/run/c", "there is no user nosuchuser on this host"),
    ]


@pytest.mark.root
def test_socket_whose_access_list_lets_postfix_in(short_path: Path) -> None:
    """A group that the socket's access list lets in may connect: so the daemon itself opens it for Postfix."""
    path = short_path / "socketmap"
    asked = ("socketmap:unix:socketmap:m", f'["unix:{path}"]')
    group = pwd.getpwnam("postfix").pw_gid
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        access_list.let_in(str(path), 0o660, group=group + 1)
        closed = found(short_path, *asked, queue=str(short_path))
        assert [finding.code for finding in closed] == ["socket_access"]
        access_list.let_in(str(path), 0o660, group=group)
        assert found(short_path, *asked, queue=str(short_path)) == []
