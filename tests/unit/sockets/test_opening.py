from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from mailmapd.config.address import UnixAddress
from mailmapd.config.schema import ListenAddress
from mailmapd.sockets.opening import SocketSet, Wanted

OPEN = """
import sys
from mailmapd.config.address import UnixAddress
from mailmapd.config.schema import ListenAddress
from mailmapd.sockets.opening import SocketSet, Wanted
entry = ListenAddress(address=UnixAddress(sys.argv[1]))
opening = SocketSet({}).open("mailmapd.toml", [Wanted("control", "listen.control", entry)])
print(*opening.faults.values())
"""


@pytest.mark.parametrize(
    ("name", "mode", "peers", "refused"),
    [
        ("dict", 0o660, (), False),
        ("dict", 0o666, (), True),
        ("dict", 0o666, ("root",), False),
        ("lookup_http", 0o662, (), True),
        ("socketmap", 0o666, (), False),
        ("webhook", 0o666, (), True),
        ("webhook", 0o660, (), False),
    ],
)
def test_mode_of_systemds_sockets(
    short_path: Path, name: str, mode: int, peers: tuple[str, ...], refused: bool
) -> None:
    """A socket of systemd's that lets every account ask for password hashes, or flush, is a fault without peers."""
    path = short_path / "s"
    address = UnixAddress(str(path))
    with socket.socket(socket.AF_UNIX) as inherited:
        inherited.bind(str(path))
        path.chmod(mode)
        sockets = SocketSet({address: inherited})
        wanted = Wanted(name, f"listen.{name}", ListenAddress(address=address, peers=peers))
        opening = sockets.open("mailmapd.toml", [wanted])
        assert list(opening.sockets) == ([] if refused else [wanted])
        with_token = sockets.open("mailmapd.toml", [wanted], has_token=True)
        assert bool(with_token.faults) is (refused and name != "webhook")
        sockets.give_back(with_token)
        assert ["SocketMode=0660" in fault.remedy for fault in opening.faults.values()] == [
            True
        ] * refused
        sockets.give_back(opening)


@pytest.mark.root
def test_folder_that_the_sandbox_keeps_read_only(short_path: Path) -> None:
    """In a folder that is read-only, as in systemd's sandbox, the remedy is another one, or leave to write."""
    command = f"mount -t tmpfs -o ro none {short_path} && exec {sys.executable} -c '{OPEN}' {short_path}/s"
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-ec", command], capture_output=True, text=True, check=True
    )
    assert (
        f"Read-only file system; choose an address below /run/mailmapd, or write [Service] and ReadWritePaths={short_path}"
        in done.stdout
    )
