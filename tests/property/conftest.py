"""Settings of all property tests."""

from __future__ import annotations

from hypothesis import settings

# No deadline: it would measure the machine. Failing examples are printed as code that reproduces them.
settings.register_profile("mailmapd", deadline=None, max_examples=200, print_blob=True)
settings.load_profile("mailmapd")
