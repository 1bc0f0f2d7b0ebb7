"""Databases: what runs a table's statements. Everything above sees `interface` only."""
