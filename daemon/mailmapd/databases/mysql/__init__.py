"""MySQL and MariaDB: login, framing, connections, pool, and the way of a statement."""
