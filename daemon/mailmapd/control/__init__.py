"""The control socket: flush and counters, for those who run the daemon."""

from __future__ import annotations
