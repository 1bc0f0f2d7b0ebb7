"""The demonstration: a whole mail database in one SQLite file, and a configuration that serves it."""
