"""mailmapd: answers the lookups of Postfix and Dovecot from memory, in front of MySQL, MariaDB or SQLite."""

__version__ = "0.1.0"
