from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import mailmapd
from mailmapd.config.address import UnixAddress
from mailmapd.config.schema import ListenAddress, Mode
from mailmapd.sockets import access_list
from mailmapd.sockets.binding import bind_socket, set_access

SOURCE = Path(mailmapd.__file__).parents[1]
NOBODY, SOMEBODY, THEIR_GROUP, ANOTHER_GROUP = 65534, 2, 33, 8

SERVE = """
import sys
from mailmapd.config.address import UnixAddress
from mailmapd.config.schema import ListenAddress
from mailmapd.sockets.binding import bind_socket
one = bind_socket(ListenAddress(address=UnixAddress(sys.argv[1]), group=sys.argv[2]))
one.listen()
print("ready", flush=True)
sys.stdin.read()
"""
CONNECT = "import socket, sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1])"


@contextmanager
def served_by_nobody(path: Path, group: int) -> Iterator[None]:
    """Have a process of nobody's open a socket for a group that nobody does not belong to."""
    command = [sys.executable, "-c", SERVE, str(path), str(group)]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(SOURCE)},
        user=NOBODY,
        group=NOBODY,
        extra_groups=[],
    ) as server:
        assert server.stdout is not None
        assert server.stdout.readline() == b"ready\n"
        yield
        assert server.stdin is not None
        server.stdin.close()


def may_connect(path: Path, group: int) -> bool:
    command = [sys.executable, "-c", CONNECT, str(path)]
    done = subprocess.run(
        command, user=SOMEBODY, group=group, extra_groups=[], capture_output=True, check=False
    )
    assert done.returncode == 0 or b"PermissionError" in done.stderr
    return done.returncode == 0


@pytest.mark.root
def test_group_of_others_is_let_in_alone(short_path: Path) -> None:
    """A process without rights opens a socket for a group that is not its own: that group can connect, no other one."""
    short_path.chmod(0o755)
    folder = short_path / "folder"
    folder.mkdir()
    os.chown(folder, NOBODY, NOBODY)
    path = folder / "s"
    with served_by_nobody(path, THEIR_GROUP):
        assert may_connect(path, THEIR_GROUP)
        assert not may_connect(path, ANOTHER_GROUP)
        assert not may_connect(path, NOBODY)
        assert access_list.groups_of(str(path)) == [THEIR_GROUP]


def test_access_list_is_replaced(short_path: Path) -> None:
    """What a socket's file allowed before is forgotten when it is given other rights."""
    entry = ListenAddress(address=UnixAddress(str(short_path / "s")), mode=Mode(0o600))
    with bind_socket(entry):
        access_list.let_in(str(short_path / "s"), 0o660, group=THEIR_GROUP)
        assert access_list.groups_of(str(short_path / "s")) == [THEIR_GROUP]
        set_access(str(short_path / "s"), entry)
        assert access_list.groups_of(str(short_path / "s")) == []
        assert (short_path / "s").stat().st_mode & 0o777 == 0o600
