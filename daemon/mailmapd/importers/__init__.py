"""Importers: from the configuration of a running mail server to mailmapd.toml."""
