"""The Debian package, as scripts/build-deb builds it inside the release that it is for; built once
for all tests of a run.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from support.debian import DebianSystem
from support.debian12 import Debian12
from support.debian13 import Debian13
from support.kept_debian import KeptDebian

PROJECT = Path(__file__).parents[2]
RELEASES: dict[str, type[Debian12 | Debian13]] = {"debian12": Debian12, "debian13": Debian13}
# Where what bears mailmapd's name is no file of the package's: what a test or a person has written for Dovecot, what
# the end of a machine without a shutdown leaves in /var/tmp, and the package itself.
OTHERS = ("/proc/*", "/etc/dovecot*/*", "*/systemd-private-*", "*.deb")
AUTHORITIES = "etc/ssl/certs/ca-certificates.crt"


def copy_source(root: Path) -> Path:
    """Put what a clone of this repository holds below /usr/src of a Debian system, and return where it is here."""
    source = root / "usr/src"
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    files = subprocess.run(listing, cwd=PROJECT, check=True, capture_output=True, text=True)
    for name in files.stdout.rstrip("\0").split("\0"):
        if (PROJECT / name).exists():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(PROJECT / name, source / name)
    # Where this machine reaches package registries by an authority of its own, that one needs it, too.
    shutil.copy(f"/{AUTHORITIES}", root / AUTHORITIES)
    return source


def build(system: KeptDebian, folder: Path) -> Path:
    """Build the package in a Debian system, and return where it is here."""
    source = copy_source(system.folder)
    try:
        system.run("sh", "-c", "cd /usr/src && scripts/build-deb")
        [package] = (source / "dist").glob("mailmapd_*.deb")
        return Path(shutil.copy(package, folder))
    finally:
        shutil.rmtree(source)
        source.mkdir()


def package(release: str, temporary: pytest.TempPathFactory) -> Path:
    """Return the package for a release, built by whichever test process of this run needs it first."""
    shared = temporary.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    folder = shared / f"package-{release}"
    with (shared / f"package-{release}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        folder.mkdir(exist_ok=True)
        if not list(folder.iterdir()):
            with RELEASES[release]() as system:
                build(system, folder)
    [path] = folder.glob("*.deb")
    return path


def left_behind(system: DebianSystem) -> list[str]:
    """Return every file and folder of a system that a purged package should have removed."""
    others = [word for place in OTHERS for word in ("-not", "-path", place)]
    return system.run("find", "/", "-xdev", "-name", "*mailmapd*", *others).stdout.splitlines()
