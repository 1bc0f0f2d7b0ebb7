"""The examples below configs/fleet fit each other, and ask for what they should."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from mailmapd.config.loader import load_config
from mailmapd.plan.assembly import plan

FOLDER = Path(__file__).parents[2] / "configs" / "fleet"
KINDS = ("follower", "reader")


def secrets_of(kind: str) -> set[str]:
    """Return the files of passwords that a configuration names."""

    def walk(value: Any) -> set[str]:
        if not isinstance(value, dict):
            return set()
        found = {value["password_file"]} if "password_file" in value else set()
        return found.union(*map(walk, value.values()))

    return walk(tomllib.loads((FOLDER / f"{kind}.toml").read_text()))


@pytest.mark.parametrize("kind", KINDS)
def test_configurations(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each configuration is one that the daemon takes; only the follower asks for the log."""
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    for name in secrets_of(kind):
        (tmp_path / name).write_text("secret")
    planned = plan(load_config(FOLDER / f"{kind}.toml"))
    assert planned.cluster is not None
    assert planned.changes["mail"].follow == ("yes" if kind == "follower" else "no")


def test_compose() -> None:
    """Three mailmapd, two of which follow, have every secret that they name, and are asked whether memory is there."""
    compose = yaml.safe_load((FOLDER / "compose.yml").read_text())
    daemons = {name: one for name, one in compose["services"].items() if one["image"] == "mailmapd"}
    kinds = [Path(one["command"][-1]).stem for one in daemons.values()]
    assert sorted(kinds) == ["follower", "follower", "reader"]
    for one in daemons.values():
        assert set(one["secrets"]) >= secrets_of("follower")
        assert one["healthcheck"]["test"][-1].endswith("/readyz')")
    assert set(compose["secrets"]) == {
        name for one in compose["services"].values() for name in one.get("secrets", ())
    }
    mounted = [
        mount.partition(":")[0] for one in compose["services"].values() for mount in one["volumes"]
    ]
    assert {name for name in mounted if not name.startswith(".")} == set(compose["volumes"])
    assert "noeviction" in compose["services"]["valkey"]["command"]
    assert "--log-slave-updates=ON" in compose["services"]["db2"]["command"]


def test_kubernetes() -> None:
    """The manifest's probes ask whether the process lives and whether memory is there, never for the database."""
    text = (FOLDER / "kubernetes.yml").read_text()
    [stateful] = yaml.safe_load_all(text)
    [container] = stateful["spec"]["template"]["spec"]["containers"]
    assert stateful["spec"]["replicas"] == 3
    probes = {
        name: container[name]["exec"]["command"][-1] for name in ("livenessProbe", "readinessProbe")
    }
    assert probes["livenessProbe"].endswith("/healthz')")
    assert probes["readinessProbe"].endswith("/readyz')")
    assert all(f"--from-file={name}" in text for name in secrets_of("follower"))
    assert all(f"--from-file={kind}.toml" in text for kind in KINDS)
