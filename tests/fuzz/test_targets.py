from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest

TARGETS = sorted(path.stem for path in (Path(__file__).parent / "targets").glob("*.py"))


@pytest.mark.parametrize("name", TARGETS)
def test_seeds_pass(name: str) -> None:
    """Every fuzz target accepts its own seeds, so that `scripts/fuzz` starts from what is known to be right."""
    target: Any = importlib.import_module(f"fuzz.targets.{name}")
    assert target.SEEDS
    for seed in (b"", *target.SEEDS):
        target.check(seed)
