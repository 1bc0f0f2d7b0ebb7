"""Namespaces of the kernel, without which no system can be booted beside this one."""

from __future__ import annotations

import shutil
import subprocess


def namespaces_allowed() -> bool:
    """Tell whether this is a user and a kernel that can boot a system beside this one."""
    if shutil.which("unshare") is None or shutil.which("nsenter") is None:
        return False
    command = ["unshare", "--mount", "--pid", "--net", "--fork", "true"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0
