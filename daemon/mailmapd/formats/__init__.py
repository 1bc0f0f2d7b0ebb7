"""Readers of other programs' files: main.cf, master.cf, .cf tables, Dovecot's files, option files."""
