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
    daemons = {
        name: service
        for name, service in compose["services"].items()
        if service["image"] == "mailmapd"
    }
    kinds = [Path(daemon["command"][-1]).stem for daemon in daemons.values()]
    assert sorted(kinds) == ["follower", "follower", "reader"]
    for daemon in daemons.values():
        assert set(daemon["secrets"]) >= secrets_of("follower")
        assert daemon["healthcheck"]["test"][-1].endswith("/readyz')")
    assert set(compose["secrets"]) == {
        name for service in compose["services"].values() for name in service.get("secrets", ())
    }
    mounted = [
        mount.partition(":")[0]
        for service in compose["services"].values()
        for mount in service["volumes"]
    ]
    assert {name for name in mounted if not name.startswith(".")} == set(compose["volumes"])
    assert "--log-slave-updates=ON" in compose["services"]["db2"]["command"]


def documents(kind: str) -> dict[str, Any]:
    """Return the manifest's objects of a kind, by name."""
    found = yaml.safe_load_all((FOLDER / "kubernetes.yml").read_text())
    return {
        document["metadata"]["name"]: document["spec"]
        for document in found
        if document["kind"] == kind
    }


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
    assert {name for name in made if "." in name} == {
        file.name for file in FOLDER.iterdir() if not file.name.endswith(".yml")
    }
    secrets = {name for name in made if "." not in name}
    assert secrets == set(yaml.safe_load((FOLDER / "compose.yml").read_text())["secrets"])
    for line in re.findall(r"for name in (.+?); do", text):
        assert set(line.split()) == secrets
    for stateful in sets.values():
        pod = stateful["template"]["spec"]
        mounts = {mount["name"] for mount in pod["containers"][0]["volumeMounts"]}
        volumes = {volume["name"] for volume in pod["volumes"]}
        volumes |= {claim["metadata"]["name"] for claim in stateful.get("volumeClaimTemplates", ())}
        assert mounts == volumes


def test_both_say_the_same() -> None:
    """Compose file and manifest have the same images, and the same options of the databases."""
    services = yaml.safe_load((FOLDER / "compose.yml").read_text())["services"]
    for name, stateful in documents("StatefulSet").items():
        [container] = stateful["template"]["spec"]["containers"]
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


def files_read_by(name: str) -> set[str]:
    """Return the secrets that a set's configuration, scripts and environment name."""
    [container] = documents("StatefulSet")[name]["template"]["spec"]["containers"]
    said = [entry["value"] for entry in container.get("env", ()) if "FILE" in entry["name"]]
    scripts = {"valkey": ["valkey.sh"], "db1": ["mariadb.sh"]}.get(name, [])
    texts = [(FOLDER / script).read_text() for script in scripts]
    found = {value.rpartition("/")[2] for value in said}
    found |= {name for text in texts for name in re.findall(r"secrets\}?/([\w-]+)", text)}
    if name == "mailmapd":
        found |= secrets_of("follower") | secrets_of("reader")
    return found


@pytest.mark.parametrize("name", ["valkey", "db1", "db2", "mailmapd"])
def test_pods_have_the_secrets_that_they_read(name: str) -> None:
    """A pod is given exactly the secrets that it reads, where it looks for them."""
    pod = documents("StatefulSet")[name]["template"]["spec"]
    [container] = pod["containers"]
    [volume] = [volume["secret"] for volume in pod["volumes"] if "secret" in volume]
    assert {item["key"] for item in volume["items"]} == files_read_by(name)
    assert all(item["key"] == item["path"] for item in volume["items"])
    [path] = [m["mountPath"] for m in container["volumeMounts"] if m["name"] == "secrets"]
    values = [entry["value"] for entry in container.get("env", ())]
    assert any(value == path or value.startswith(f"{path}/") for value in values)


def test_daemons_are_confined() -> None:
    """The daemon's pod runs as the image's account, which alone may read its secrets, and can write to its sockets
    alone; so it is in the compose file.
    """
    pod = documents("StatefulSet")["mailmapd"]["template"]["spec"]
    user = re.search(
        r"^USER (\d+):(\d+)$", (FOLDER.parents[1] / "Containerfile").read_text(), re.MULTILINE
    )
    assert user is not None
    assert pod["securityContext"] == {"runAsNonRoot": True, "fsGroup": int(user[2])}
    [secret] = [volume["secret"] for volume in pod["volumes"] if "secret" in volume]
    assert secret["defaultMode"] == 0o440
    [container] = pod["containers"]
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert [mount["name"] for mount in container["volumeMounts"] if not mount.get("readOnly")] == [
        "sockets"
    ]
    services = yaml.safe_load((FOLDER / "compose.yml").read_text())["services"]
    for service in (service for service in services.values() if service["image"] == "mailmapd"):
        assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"])


def test_ports_and_probes_fit_the_configuration() -> None:
    """Probes ask at the address that the configuration has, by a program of the image, and no service promises a port
    that nobody listens on.
    """
    image = (FOLDER.parents[1] / "Containerfile").read_text()
    assert set(re.findall(r"^FROM (\w+)", image, re.MULTILINE)) == {"python"}
    follower, reader = (
        tomllib.loads((FOLDER / f"{kind}.toml").read_text())["listen"] for kind in KINDS
    )
    assert follower == reader
    assert follower["socketmap"][0]["address"].startswith("unix:/run/mailmapd/")
    address = follower["http"]
    assert address.startswith("127.0.0.1:")
    [container] = documents("StatefulSet")["mailmapd"]["template"]["spec"]["containers"]
    services = yaml.safe_load((FOLDER / "compose.yml").read_text())["services"]
    commands = [container[f"{kind}Probe"]["exec"]["command"] for kind in ("liveness", "readiness")]
    commands += [
        service["healthcheck"]["test"][1:]
        for service in services.values()
        if service["image"] == "mailmapd"
    ]
    for command in commands:
        assert command[:2] == ["python", "-c"]
        compile(command[2], "probe", "exec")
        assert f"'http://{address}/" in command[2]
    assert "ports" not in documents("Service")["mailmapd"]  # what listens on 127.0.0.1 has none
    mounted = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert {"/etc/mailmapd", "/run/mailmapd"} <= mounted
    for name, port in (("valkey", 6379), ("db1", 3306), ("db2", 3306)):
        assert documents("Service")[name]["ports"] == [{"port": port}]
