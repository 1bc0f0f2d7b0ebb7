"""SQLite, embedded: readers in threads."""
