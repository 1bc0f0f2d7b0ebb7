from __future__ import annotations

import socket
from pathlib import Path

from mailmapd.app.service_manager import ServiceManager


def test_status_is_one_line(short_path: Path) -> None:
    """What a database says about a query of several lines cannot tell systemd anything but a status."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notified:
        notified.bind(str(short_path / "notify"))
        manager = ServiceManager({"NOTIFY_SOCKET": str(short_path / "notify")})
        manager.status("table alias: near 'FROM\nMAINPID=1\nWHERE'")
        assert notified.recv(1000) == b"STATUS=table alias: near 'FROM MAINPID=1 WHERE'\nWATCHDOG=1"
        manager.ready("table alias:\nSTOPPING=1")
        assert notified.recv(1000) == b"READY=1\nSTATUS=table alias: STOPPING=1"
