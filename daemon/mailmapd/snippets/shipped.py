"""The files that come with mailmapd.

Units and ready-made configurations, in the installed package or in a source tree.
"""

from __future__ import annotations

from pathlib import Path

import mailmapd
from mailmapd.errors import ConfigError, Fault

_PACKAGE = Path(mailmapd.__file__).parent


def shipped(name: str) -> Path:
    """Return the path of a shipped file such as ``systemd/mailmapd.service``.

    Raises ConfigError when the installation lacks it.
    """
    for root in (_PACKAGE / "share", _PACKAGE.parents[1]):
        path = root / name
        if path.exists():
            return path
    raise ConfigError(
        [
            Fault(
                name,
                "",
                "does not come with this installation",
                "install mailmapd from its wheel or its Debian package",
            )
        ]
    )
