"""The engine: tables, maps and dicts between the protocols and the databases."""
