"""The long description of the package: the README, without its links to files that only the source has.

hatchling loads this file by its name when it builds the wheel or the source archive
(`[tool.hatch.metadata.hooks.custom]`).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

_TO_A_FILE = re.compile(r"\[([^\]]+)\]\((?!\w+:)([^)]+)\)")


def long_description(readme: str) -> str:
    """Return the README with each link to a file as that file's name; other links stay."""
    return _TO_A_FILE.sub(
        lambda link: f"`{link[2]}`" if link[1] == link[2] else f"{link[1]} (`{link[2]}`)", readme
    )


class LongDescription(MetadataHookInterface):
    """Fills in the field `readme`."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Add it to the project's metadata."""
        readme = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        metadata["readme"] = {"content-type": "text/markdown", "text": long_description(readme)}
