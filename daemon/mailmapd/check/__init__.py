"""Check: what is wrong with a configuration, its databases and its queries, and what to do about it."""
