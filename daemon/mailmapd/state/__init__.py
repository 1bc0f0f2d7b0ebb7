"""Memory that outlives the process: the state file, warm start, preload."""
