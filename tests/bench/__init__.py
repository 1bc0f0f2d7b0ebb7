"""Measurements of mailmapd beside everything it replaces, on one machine and in one run: `scripts/bench`."""
