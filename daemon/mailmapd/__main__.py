"""`python -m mailmapd` is the program `mailmapd`."""

from __future__ import annotations

from mailmapd.cli import main

main()
