"""The long description of the package: the README, without its links to files that only the source has.

hatchling loads this file by its name when it builds the wheel or the source archive
(`[tool.hatch.metadata.hooks.custom]`), and so it finds the manual pages and the shells' completions
for the wheel (`[tool.hatch.build.targets.wheel.hooks.custom]`).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from hatchling.metadata.plugin.interface import MetadataHookInterface

_COMPLETIONS = {
    "mailmapd.bash": "share/bash-completion/completions/mailmapd",
    "_mailmapd": "share/zsh/site-functions/_mailmapd",
    "mailmapd.fish": "share/fish/vendor_completions.d/mailmapd.fish",
}
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


class SharedData(BuildHookInterface):  # type: ignore[type-arg] (its configuration is of no interest)
    """Puts manual pages and completions where man(1) and the shells look below an installation's prefix."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002 (hatchling's signature)
        """Add them to the wheel."""
        root = Path(self.root)
        shared: dict[str, str] = build_data["shared_data"]
        for page in (root / "docs" / "man").iterdir():
            shared[str(page)] = f"share/man/man{page.suffix[1:]}/{page.name}"
        for name, place in _COMPLETIONS.items():
            shared[str(root / "configs" / "completion" / name)] = place
