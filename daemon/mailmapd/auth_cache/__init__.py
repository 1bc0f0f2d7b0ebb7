"""Dovecot's own auth cache: it forgets what mailmapd forgets."""
