"""compose.yaml, as a container engine reads it."""

from __future__ import annotations

from typing import Any

import yaml  # type: ignore[import-untyped]  # it ships no types

from support.guide import PROJECT


def compose() -> dict[str, Any]:
    """Return services, volumes and secrets."""
    found: dict[str, Any] = yaml.safe_load((PROJECT / "compose.yaml").read_text())
    return found
