# Postfix's main.cf for /etc/mailmapd/mailmapd.toml: lets Postfix ask mailmapd. Paste as root.
# Undo: mv -f /etc/postfix/main.cf.before-mailmapd /etc/postfix/main.cf && postfix reload
[ -e /etc/postfix/main.cf.before-mailmapd ] || cp -p /etc/postfix/main.cf /etc/postfix/main.cf.before-mailmapd

# virtual(8) takes no socketmap: tables, so that mailboxes must be filled by LMTP; adapt the socket to your Dovecot.
postconf -e 'virtual_transport = lmtp:unix:private/dovecot-lmtp'

postconf -e 'virtual_mailbox_domains = socketmap:unix:mailmapd/socketmap:virtual_mailbox_domains'

postconf -e 'relay_domains = socketmap:unix:mailmapd/socketmap:relay_domains'

postconf -e 'virtual_mailbox_maps = socketmap:unix:mailmapd/socketmap:virtual_mailbox_maps'

postconf -e 'virtual_alias_maps = socketmap:unix:mailmapd/socketmap:virtual_alias_maps'

postconf -e 'transport_maps = socketmap:unix:mailmapd/socketmap:transport_maps'

postconf -e 'sender_dependent_relayhost_maps = socketmap:unix:mailmapd/socketmap:sender_dependent_relayhost_maps'

postconf -e 'smtpd_sender_login_maps = socketmap:unix:mailmapd/socketmap:smtpd_sender_login_maps'

postconf -e 'sender_bcc_maps = socketmap:unix:mailmapd/socketmap:sender_bcc_maps'

postconf -e 'recipient_bcc_maps = socketmap:unix:mailmapd/socketmap:recipient_bcc_maps'

postfix reload
