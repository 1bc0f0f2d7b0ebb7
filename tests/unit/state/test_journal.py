from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from mailmapd.engine.invalidation import Invalidation
from mailmapd.state.journal import Journal

SOME = Invalidation("alias", frozenset((b"a@example.com",)))
OTHER = Invalidation("alias", frozenset((b"b@example.com",)))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cache.forgotten"


@pytest.fixture
def wide_open() -> object:
    """Have files be made as everybody may read and write them, if their maker does not say otherwise."""
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.usefixtures("wide_open")
def test_nobody_else_reads_or_writes(path: Path) -> None:
    """The journal is its owner's alone, from its first line on and after it was cut, also when it was not before."""
    journal = Journal(path)
    journal.add([SOME])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    first = journal.size()
    journal.add([OTHER])
    path.with_suffix(".new").symlink_to(path.with_name("elsewhere"))
    Path(f"{path}.new").symlink_to(path.with_name("elsewhere"))
    journal.cut(first)
    assert journal.read() == [OTHER]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not path.with_name("elsewhere").exists()
    path.chmod(0o644)
    journal.add([SOME])
    assert journal.read() == [OTHER, SOME]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_link_is_not_followed(path: Path) -> None:
    """Where somebody has put a link, or a pipe, nothing is written."""
    elsewhere = path.with_name("elsewhere")
    elsewhere.write_text("mine")
    path.symlink_to(elsewhere)
    with pytest.raises(OSError, match="symbolic links"):
        Journal(path).add([SOME])
    assert elsewhere.read_text() == "mine"
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(OSError, match="No such device"):
        Journal(path).add([SOME])


def test_what_others_may_have_written(path: Path) -> None:
    """Of a journal that others may write it is not known what stood there: everything counts as forgotten."""
    journal = Journal(path)
    journal.add([SOME])
    path.chmod(0o666)
    assert journal.read() == [Invalidation()]
