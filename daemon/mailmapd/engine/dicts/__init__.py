"""Dicts: what Dovecot asks."""
