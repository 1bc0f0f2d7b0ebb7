"""Real servers, started privately for tests: each with its own directory, sockets and ports, never the system's."""
