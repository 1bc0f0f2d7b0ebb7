"""What is shipped: the wheel without its source folder, the locks, the text that every file must not hold."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from mailmapd.config.schema import Config, SecretFile
from support.schema_keys import keys_of_kind

PROJECT = Path(__file__).parents[2]
LOCKS = ["run-time.lock", "test-tools.lock", "build-tools.lock"]


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new virtual environment with the wheel in it.

    Its libraries are those of this one, and this source folder is out of reach.
    """
    folder = tmp_path_factory.mktemp("wheel")
    build: list[str | Path] = [
        sys.executable,
        "-m",
        "build",
        "--wheel",
        "--no-isolation",
        "--outdir",
        folder,
        PROJECT,
    ]
    subprocess.run(build, check=True, capture_output=True)
    [wheel] = folder.glob("mailmapd-*.whl")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
    [site] = (folder / "venv").glob("lib/python3*/site-packages")
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "-qq", "--no-deps", "--target", site, wheel],
        check=True,
    )
    [libraries] = [
        path
        for path in sys.path
        if path.endswith("site-packages") and Path(path, "aiohttp").is_dir()
    ]
    (site / "libraries.pth").write_text(f"import sys; sys.path.append({libraries!r})\n")
    return folder / "venv"


def run_installed(installed: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    command: list[str | Path] = [installed / "bin" / "python", "-W", "error", *arguments]
    return subprocess.run(
        command, cwd=installed, env=environment, capture_output=True, text=True, check=False
    )


def test_wheel_runs_with_the_source_folder_gone(installed: Path) -> None:
    """The installed package starts from site-packages, not from this folder, and says its version."""
    done = run_installed(installed, "-c", "import mailmapd; print(mailmapd.__file__)")
    assert done.stdout.startswith(str(installed)), done.stderr
    start = (
        "from importlib.metadata import entry_points; [main] = "
        "entry_points(group='console_scripts', name='mailmapd'); main.load()()"
    )
    done = run_installed(installed, "-c", start, "--version")
    assert done.returncode == 0, done.stderr
    assert re.search(r"\b\d+\.\d+\.\d+\b", done.stdout)


def test_wheel_is_typed_and_complete(installed: Path) -> None:
    """Every file of the source folder is in the wheel: modules, pages, py.typed."""
    [site] = installed.glob("lib/python3*/site-packages/mailmapd")
    source = PROJECT / "daemon" / "mailmapd"
    wanted = {
        path.relative_to(source)
        for path in source.rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    wanted = {
        path for path in wanted if not path.parts[0].startswith(".")
    }  # what tools leave behind
    assert wanted - {path.relative_to(site) for path in site.rglob("*")} == set()


def test_wheel_brings_units_and_configurations(installed: Path) -> None:
    """What an administrator copies is in the wheel: units and sample configurations."""
    [share] = installed.glob("lib/python3*/site-packages/mailmapd/share")
    for folder in ("systemd", "configs"):
        wanted = {
            path.relative_to(PROJECT) for path in (PROJECT / folder).rglob("*") if path.is_file()
        }
        assert wanted
        assert wanted - {path.relative_to(share) for path in share.rglob("*")} == set()


def test_wheel_brings_manual_pages_and_completion(installed: Path) -> None:
    """man(1) and the shells find what they look for below the prefix of an installation by pip, pipx or uv."""
    site = next(installed.glob("lib/python3*/site-packages"))
    pages = {f"man{page.suffix[1:]}/{page.name}" for page in (PROJECT / "docs/man").iterdir()}
    manuals = site / "share" / "man"  # pip --target puts data there; without it, below the prefix
    assert {str(path.relative_to(manuals)) for path in manuals.glob("*/*")} == pages
    assert (site / "share/bash-completion/completions/mailmapd").is_file()


@pytest.mark.parametrize(
    ("shell", "name"), [("bash", "mailmapd.bash"), ("zsh", "_mailmapd"), ("fish", "mailmapd.fish")]
)
def test_completion_is_what_the_program_says(shell: str, name: str) -> None:
    """The shipped completion of each shell is the one that the program prints itself."""
    done = subprocess.run(
        [sys.executable, "-m", "mailmapd"],
        env=os.environ
        | {"PYTHONPATH": str(PROJECT / "daemon"), "_MAILMAPD_COMPLETE": f"{shell}_source"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == (PROJECT / "configs" / "completion" / name).read_text()


def test_long_description_has_no_dead_links(installed: Path) -> None:
    """The long description is the README, and its only links are to the world outside.

    Files of the source are named.
    """
    [metadata] = installed.glob("lib/python3*/site-packages/mailmapd-*.dist-info/METADATA")
    description = metadata.read_text().partition("\n\n")[2]
    assert description.startswith("# mailmapd\n")
    assert "docs/install.md" in description
    assert [
        link
        for link in re.findall(r"\]\(([^)]*)\)", description)
        if not link.startswith("https://")
    ] == []


@pytest.mark.parametrize("name", LOCKS)
def test_locks_pin_hashes_and_name_no_host(name: str) -> None:
    """A lock gives one exact version and hashes for each package, and says nothing about where to fetch it."""
    text = (PROJECT / "scripts" / name).read_text()
    pins = re.findall(r"^(?!#)(\S.*?) \\$", text, re.MULTILINE)
    assert pins
    assert [pin for pin in pins if not re.match(r"[a-z0-9-]+==\S+( ; .*)?$", pin)] == []
    assert len(re.findall(r"^(?!#)\S", text, re.MULTILINE)) == len(pins)
    assert not re.search(r"://|--(index|extra-index|find-links|trusted-host)", text)


def test_lock_covers_every_dependency() -> None:
    """Each dependency of pyproject.toml is pinned in the lock that installs it."""
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())
    groups = project["dependency-groups"]
    extras = project["project"]["optional-dependencies"].values()
    run_time = project["project"]["dependencies"] + [line for lines in extras for line in lines]
    tools = [
        line
        for name in ("test", "check", "package", "build", "hooks", "docs")
        for line in groups[name]
    ]
    for lock, wanted in (
        ("run-time.lock", run_time),
        ("test-tools.lock", run_time + tools),
        ("build-tools.lock", groups["package"]),
    ):
        text = (PROJECT / "scripts" / lock).read_text()
        names = [re.split(r"[<>=!~ ]", line)[0].lower() for line in wanted]
        assert [
            name for name in names if not re.search(rf"^{re.escape(name)}==", text, re.MULTILINE)
        ] == []


def test_every_dependency_has_its_reason() -> None:
    """Each run-time dependency in pyproject.toml stands under a comment that says why it is there."""
    text = (PROJECT / "pyproject.toml").read_text()
    [block] = re.findall(r"^dependencies = \[\n(.*?)^\]", text, re.MULTILINE | re.DOTALL)
    lines = block.splitlines()
    assert [
        line
        for before, line in zip(["", *lines], lines, strict=False)
        if line.strip().startswith('"') and "#" not in before
    ] == []


def test_unit_loads_the_secrets_of_the_sample() -> None:
    """Each secret that the sample names is one that the unit hands over, where systemd can.

    None has a path: where it is missing that would end the start, and what systemd before 251 takes is a path alone, so
    that an older one passes the lines over, and the file beside the configuration counts.
    """
    sample = (PROJECT / "configs" / "mailmapd.toml").read_text()
    text = re.sub(r"^#(?=[a-z_]+ = |\[)", "", sample, flags=re.MULTILINE)
    named = re.findall(r'^\w*(?:password|token|key)_file = "([^"]+)"', text, re.MULTILINE)
    unit = (PROJECT / "systemd" / "mailmapd.service").read_text()
    loaded = re.findall(r"^LoadCredential=(.*)$", unit, re.MULTILINE)
    assert sorted(loaded) == sorted(named)
    assert len(loaded) == len(keys_of_kind(Config, SecretFile))
    assert not any(":" in name for name in loaded)
