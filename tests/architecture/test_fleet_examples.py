"""The examples below configs/fleet fit each other, and ask for what they should."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from mailmapd.check.cluster import acl_line
from mailmapd.cluster.settings import ClusterSettings
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
    assert "--log-slave-updates=ON" in compose["services"]["db2"]["command"]


def documents(kind: str) -> dict[str, Any]:
    """Return the manifest's objects of a kind, by name."""
    found = yaml.safe_load_all((FOLDER / "kubernetes.yml").read_text())
    return {one["metadata"]["name"]: one["spec"] for one in found if one["kind"] == kind}


def test_kubernetes() -> None:
    """The manifest's probes ask whether the process lives and whether memory is there, never for the database."""
    stateful = documents("StatefulSet")["mailmapd"]
    [container] = stateful["template"]["spec"]["containers"]
    assert stateful["replicas"] == 3
    probes = {
        name: container[name]["exec"]["command"][-1] for name in ("livenessProbe", "readinessProbe")
    }
    assert probes["livenessProbe"].endswith("/healthz')")
    assert probes["readinessProbe"].endswith("/readyz')")


def test_kubernetes_is_whole() -> None:
    """Every host that a configuration names is a service of a set, and what they mount is what the first lines make."""
    text = (FOLDER / "kubernetes.yml").read_text()
    sets = documents("StatefulSet")
    for name, service in documents("Service").items():
        assert service["selector"] == sets[name]["template"]["metadata"]["labels"]
    configuration = tomllib.loads((FOLDER / "follower.toml").read_text())
    hosts = [host.partition(":")[0] for host in configuration["database"]["mail"]["hosts"]]
    assert set(documents("Service")) == set(sets) == {*hosts, "valkey", "mailmapd"}
    made = set(re.findall(r"--from-file=(\S+)", text))
    assert {one for one in made if "." in one} == {
        one.name for one in FOLDER.iterdir() if not one.name.endswith(".yml")
    }
    secrets = {one for one in made if "." not in one}
    assert secrets == set(yaml.safe_load((FOLDER / "compose.yml").read_text())["secrets"])
    for line in re.findall(r"for name in (.+?); do", text):
        assert set(line.split()) == secrets
    for one in sets.values():
        pod = one["template"]["spec"]
        mounts = {mount["name"] for mount in pod["containers"][0]["volumeMounts"]}
        volumes = {volume["name"] for volume in pod["volumes"]}
        volumes |= {claim["metadata"]["name"] for claim in one.get("volumeClaimTemplates", ())}
        assert mounts == volumes


def test_both_say_the_same() -> None:
    """Compose file and manifest have the same images, and the same options of the databases."""
    services = yaml.safe_load((FOLDER / "compose.yml").read_text())["services"]
    for name, one in documents("StatefulSet").items():
        [container] = one["template"]["spec"]["containers"]
        service = services["mx1" if name == "mailmapd" else name]
        assert container["image"] == service["image"]
        if name.startswith("db"):
            assert container["args"] == service["command"]
            given = {entry["name"] for entry in container["env"]} - {"SECRETS"}
            assert given == set(service["environment"])


def test_account() -> None:
    """The one account of the example's Valkey is that which `check` prints."""
    text = (FOLDER / "valkey.sh").read_text()
    line = acl_line(ClusterSettings(user="mailmapd")).removeprefix("ACL SETUSER ")
    assert line.replace("reset on >PASSWORD", "on #$password") in text.replace(
        "user mailmapd", "mailmapd"
    )
    assert "maxmemory-policy noeviction" in text
