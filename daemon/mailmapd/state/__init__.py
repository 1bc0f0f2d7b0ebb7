"""What is kept from one start to the next: the state file, warm start, preload."""
