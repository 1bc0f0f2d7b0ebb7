"""Settings of the unit tests that draw their examples."""

from __future__ import annotations

from hypothesis import settings

# No deadline: it would measure the machine.
settings.register_profile("mailmapd-unit", deadline=None)
settings.load_profile("mailmapd-unit")
