from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from mailmapd.config.address import TcpAddress, UnixAddress
from mailmapd.config.schema import ListenAddress, Mode
from mailmapd.sockets.binding import bind_socket, set_access
from mailmapd.sockets.opening import SocketSet, Wanted
from mailmapd.sockets.units import socket_unit


def unix(
    path: Path, *, owner: str | None = None, group: str | None = None, mode: Mode | None = None
) -> ListenAddress:
    return ListenAddress(address=UnixAddress(str(path)), owner=owner, group=group, mode=mode)


def test_mode(tmp_path: Path) -> None:
    """A UNIX socket has its configured mode, 0660 by default, before anybody can connect."""
    for name, configured, mode in (("a", None, 0o660), ("b", Mode(0o600), 0o600)):
        with bind_socket(unix(tmp_path / name, mode=configured)):
            assert stat.S_IMODE((tmp_path / name).stat().st_mode) == mode
            with socket.socket(socket.AF_UNIX) as early, pytest.raises(ConnectionRefusedError):
                early.connect(str(tmp_path / name))


def test_group(tmp_path: Path) -> None:
    """Owner and group may be numbers."""
    with bind_socket(unix(tmp_path / "s", group=str(os.getgid()), owner=str(os.getuid()))):
        assert (tmp_path / "s").stat().st_gid == os.getgid()


def test_unknown_user(tmp_path: Path) -> None:
    """An owner that does not exist is named, and no socket is left."""
    with pytest.raises(OSError, match='there is no user "nobody-here"'):
        bind_socket(unix(tmp_path / "s", owner="nobody-here"))
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize("group", [None, "1"])
def test_a_link_in_its_place(tmp_path: Path, group: str | None) -> None:
    """Who may write in the folder, and puts a link where the socket was, has no other file given to anybody."""
    path, victim = tmp_path / "s", tmp_path / "victim"
    victim.touch(0o600)
    before = victim.stat()
    entry = unix(path, group=group, mode=Mode(0o666))
    with bind_socket(entry):
        path.unlink()
        path.symlink_to(victim)
        with pytest.raises(OSError, match="is no socket any more"):
            set_access(str(path), entry)
    assert (victim.stat().st_mode, victim.stat().st_gid) == (before.st_mode, before.st_gid)


def test_stale_file_is_replaced(tmp_path: Path) -> None:
    """A socket file that nobody listens on is replaced."""
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "s"))
    with bind_socket(unix(tmp_path / "s")) as bound:
        bound.listen()
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(tmp_path / "s"))


def test_living_socket_is_kept(tmp_path: Path) -> None:
    """A socket that a process serves is never taken away."""
    with bind_socket(unix(tmp_path / "s")) as first:
        first.listen()
        with pytest.raises(OSError, match="served by a running process"):
            bind_socket(unix(tmp_path / "s"))
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(tmp_path / "s"))


def test_other_file_is_kept(tmp_path: Path) -> None:
    """A file that is no socket is never removed."""
    (tmp_path / "s").write_text("precious")
    with pytest.raises(OSError, match="exists and is no socket"):
        bind_socket(unix(tmp_path / "s"))
    assert (tmp_path / "s").read_text() == "precious"


def test_missing_folder(tmp_path: Path) -> None:
    """A folder that does not exist is an error that names the address."""
    with pytest.raises(OSError, match=r"cannot listen on unix:.*/no/s: No such file"):
        bind_socket(unix(tmp_path / "no" / "s"))


def test_port_in_use() -> None:
    """A TCP port that is taken is an error that names the address."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = TcpAddress("127.0.0.1", taken.getsockname()[1])
        with pytest.raises(
            OSError, match=f"cannot listen on 127.0.0.1:{address.port}: Address already in use"
        ):
            bind_socket(ListenAddress(address=address))


def test_every_fault_has_its_remedy(tmp_path: Path) -> None:
    """An unknown group, a plain file and a missing folder each get the remedy that fits, and the
    right unit is named.
    """
    (tmp_path / "plain").write_text("precious")
    entries = {
        "group": unix(tmp_path / "s", group="nobody-here"),
        "file": unix(tmp_path / "plain"),
        "folder": unix(tmp_path / "no" / "s"),
    }
    wanted = {name: Wanted("dict", f"listen.{name}", entry) for name, entry in entries.items()}
    faults = SocketSet({}).open("mailmapd.toml", wanted.values()).faults
    remedies = {name: faults[socket_wanted].remedy for name, socket_wanted in wanted.items()}
    assert "install the program that brings it" in remedies["group"]
    assert "move that file away" in remedies["file"]
    assert "create its folder first" in remedies["folder"]
    assert socket_unit("dict") == "mailmapd-dict.socket"
    assert socket_unit("tcp_table.aliases") == "mailmapd-tcp-table@aliases.socket"
