"""The Containerfile and compose.yaml, as far as they can be judged without an engine.

That the containers' files work together is tested with a real MariaDB, see tests/integration/test_container.py.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from support.compose import compose

PROJECT = Path(__file__).parents[2]
KNOWN = {
    "FROM",
    "COPY",
    "RUN",
    "USER",
    "EXPOSE",
    "STOPSIGNAL",
    "HEALTHCHECK",
    "ENTRYPOINT",
    "CMD",
    "ENV",
    "WORKDIR",
    "LABEL",
    "ARG",
}


def instructions() -> list[tuple[str, str]]:
    lines = [
        line
        for line in (PROJECT / "Containerfile").read_text().splitlines()
        if not line.startswith("#")
    ]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [
        (word, rest)
        for word, _, rest in (line.partition(" ") for line in joined.splitlines() if line)
    ]


def test_instructions_are_known_and_start_with_a_base() -> None:
    """Every line is an instruction, and the first names the base image, which both stages have."""
    words = [word for word, _ in instructions()]
    assert set(words) <= KNOWN
    assert words[0] == "FROM"
    assert len({rest.split()[0] for word, rest in instructions() if word == "FROM"}) == 1


def test_what_is_copied_exists() -> None:
    """COPY takes files of this folder that no .dockerignore hides, all that the wheel is made of,
    and what the first stage has built.
    """
    sources = [
        source
        for word, rest in instructions()
        if word == "COPY" and "--from" not in rest
        for source in rest.split()[:-1]
    ]
    assert [source for source in sources if not (PROJECT / source).exists()] == []
    ignored = (PROJECT / ".dockerignore").read_text().split()
    assert set(sources).isdisjoint(ignored)
    # hatchling fails where one of these is missing.
    assert {"pyproject.toml", "hatch_build.py", "README.md", "LICENSE", "docs/man"} <= set(sources)
    assert {"systemd", "configs", "daemon"} <= set(sources)


def test_it_runs_the_daemon_without_root() -> None:
    """The image starts `mailmapd serve` in exec form, as a numeric user that is not root."""
    last = dict(instructions())
    command = json.loads(last["ENTRYPOINT"]) + json.loads(last["CMD"])
    assert command == ["mailmapd", "serve", "--config", "/etc/mailmapd/mailmapd.toml"]
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", last["USER"])
    assert json.loads(last["HEALTHCHECK"].partition(" CMD ")[2])[0] == "python"


def test_compose_takes_only_what_is_there() -> None:
    """Every file of this folder, volume and secret that a service names exists, and every volume and secret is used."""
    text = compose()
    used: dict[str, set[str]] = {"volumes": set(), "secrets": set()}
    for service in text["services"].values():
        used["secrets"].update(service.get("secrets", ()))
        for mount in service["volumes"]:
            source = mount.split(":")[0]
            if source.startswith("./"):
                assert (PROJECT / source).is_file(), source
            elif not source.startswith("/"):
                used["volumes"].add(source)
    assert {kind: set(text[kind]) for kind in used} == used
    build = text["services"]["mailmapd"]["build"]
    assert (PROJECT / build["context"] / build["dockerfile"]).is_file()


def test_compose_confines_the_daemon() -> None:
    """The daemon's container has no capability and cannot write but to the folders of its sockets;
    the database opens no port.
    """
    services = compose()["services"]
    daemon = services["mailmapd"]
    assert daemon["read_only"] is True
    assert daemon["cap_drop"] == ["ALL"]
    assert daemon["security_opt"] == ["no-new-privileges:true"]
    writable = [mount.split(":")[0] for mount in daemon["volumes"] if not mount.endswith(":ro")]
    assert writable == ["/var/spool/postfix/mailmapd"]
    assert not {"ports", "network_mode"} & set(services["mariadb"])
    # Both see the database's socket, and mailmapd does not wait for the database.
    assert any(mount.startswith("mysqld:/run/mysqld") for mount in services["mariadb"]["volumes"])
    assert "mysqld:/run/mysqld:ro" in daemon["volumes"]
    assert daemon["depends_on"] == ["mariadb"]
