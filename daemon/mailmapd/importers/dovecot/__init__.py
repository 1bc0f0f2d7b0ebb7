"""From a running Dovecot 2.3 to mailmapd: its dovecot-sql.conf.ext and its passdb and userdb sections."""
