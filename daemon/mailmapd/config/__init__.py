"""The configuration file: its schema, its defaults, and clear faults for everything that is wrong with it."""
