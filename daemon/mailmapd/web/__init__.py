"""The HTTP side: metrics and health for people and Prometheus, lookups for Dovecot 2.4's Lua script."""
