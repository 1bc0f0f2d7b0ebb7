"""Two builds of one commit give the same package, byte for byte, with a bill of what is in it."""

from __future__ import annotations

import hashlib
import json
import subprocess
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]


@pytest.mark.slow
def test_two_builds_are_equal(tmp_path: Path) -> None:
    """The package is the same when it is built again somewhere else, and names each library with its version."""
    digests = set()
    for name in ("one", "another"):
        subprocess.run(
            [PROJECT / "scripts" / "build-deb", tmp_path / name], check=True, timeout=280
        )
        (package,) = (tmp_path / name).glob("*.deb")
        digests.add(hashlib.sha256(package.read_bytes()).hexdigest())
    assert len(digests) == 1
    (package,) = (tmp_path / "one").glob("*.deb")
    subprocess.run(["dpkg-deb", "-x", package, tmp_path / "root"], check=True)
    bill = json.loads((tmp_path / "root/usr/share/doc/mailmapd/sbom.cdx.json").read_text())
    named = {
        component["name"].lower().replace("_", "-"): component["version"]
        for component in bill["components"]
    }
    installed = {}
    for folder in (tmp_path / "root/usr/lib/mailmapd").glob("*.dist-info"):
        distribution, version = folder.name.removesuffix(".dist-info").split("-")
        installed[distribution.lower().replace("_", "-").replace(".", "-")] = version
    assert installed.pop("mailmapd") == bill["metadata"]["component"]["version"]
    assert {name.replace(".", "-"): version for name, version in named.items()} == installed
    assert all(component["hashes"] for component in bill["components"])
