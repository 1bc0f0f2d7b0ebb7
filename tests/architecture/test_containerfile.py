"""The Containerfile, as far as it can be judged without an engine."""

from __future__ import annotations

import json
import re
from pathlib import Path

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
    """Every line is an instruction, and the first names the base image."""
    words = [word for word, _ in instructions()]
    assert set(words) <= KNOWN
    assert words[0] == "FROM"


def test_what_is_copied_exists() -> None:
    """COPY takes files of this folder, and the wheel that `python3 -m build` leaves in dist/."""
    sources = [
        source for word, rest in instructions() if word == "COPY" for source in rest.split()[:-1]
    ]
    assert "dist/mailmapd-*-py3-none-any.whl" in sources
    assert [
        source
        for source in sources
        if not source.startswith("dist/") and not (PROJECT / source).exists()
    ] == []


def test_it_runs_the_daemon_without_root() -> None:
    """The image starts `mailmapd serve` in exec form, as a numeric user that is not root."""
    last = dict(instructions())
    command = json.loads(last["ENTRYPOINT"]) + json.loads(last["CMD"])
    assert command == ["mailmapd", "serve", "--config", "/etc/mailmapd/mailmapd.toml"]
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", last["USER"])
    assert json.loads(last["HEALTHCHECK"].partition(" CMD ")[2])[0] == "python"
