from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from bench.source import Source
from support.process import ServerFailed


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=test", "-c", "user.email=test@example.com"]
    done = subprocess.run(
        ["git", "-C", str(folder), *identity, *arguments],
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository of two commits, whose package says which it is."""
    folder = tmp_path / "repository"
    for part in ("daemon", "tests"):
        (folder / part).mkdir(parents=True)
        (folder / part / "here").write_text(part)
    git(folder, "init", "--quiet")
    for version in ("old", "new"):
        (folder / "daemon" / "version").write_text(version)
        git(folder, "add", ".")
        git(folder, "commit", "--quiet", "--message", version)
    return folder


def test_parent_is_the_commit_itself(repository: Path, tmp_path: Path) -> None:
    """A parent's package and tests are those of its commit, whatever lies in the work tree."""
    (repository / "daemon" / "version").write_text("not committed")
    (tmp_path / "parent").mkdir()
    parent = Source.at("HEAD~1", tmp_path / "parent", repository / "daemon")
    assert (parent.package / "version").read_text() == "old"
    assert (parent.tests / "here").read_text() == "tests"
    assert parent.name == f"commit {git(repository, 'rev-parse', '--short', 'HEAD~1')}"


def test_no_such_commit(repository: Path, tmp_path: Path) -> None:
    """A commit that is not there ends the run, and its name is in the error."""
    with pytest.raises(ServerFailed, match="nowhere"):
        Source.at("nowhere", tmp_path, repository)
