# The widespread tutorial's mail host, followed to the letter, faults included, in a Debian 12 with Postfix, Dovecot and MariaDB.
set -e
groupadd --gid 666 vmail
useradd --uid 666 --gid 666 --home-dir /home/vmail --create-home vmail
chmod 777 /home/vmail

# The database's root has a password, with a blank in it, which every file repeats.
mysql <<'SQL'
ALTER USER 'root'@'localhost' IDENTIFIED VIA unix_socket OR mysql_native_password USING PASSWORD('root secret');
CREATE DATABASE virtual_email CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
USE virtual_email;
CREATE TABLE email_user (
  user_no varchar(32) NOT NULL PRIMARY KEY,
  mail_account varchar(128) NOT NULL,
  mail_password varchar(64) NOT NULL,
  mail_domain varchar(64) NOT NULL,
  mail_dir varchar(128) NOT NULL
) DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;
CREATE TABLE email_aliase (
  aliase varchar(128) NOT NULL PRIMARY KEY,
  destination varchar(128) NOT NULL
) DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;
INSERT INTO email_user VALUES ('you', 'you@example.com', 'secret', 'example.com', 'example.com/you/');
INSERT INTO email_user VALUES ('odd', 'odd@example.com', ' two words\\', 'example.com', 'example.com/odd/');
INSERT INTO email_user VALUES ('it''s', 'it''s@example.com', 'quoted', 'example.com', 'example.com/its/');
INSERT INTO email_aliase VALUES ('info@example.com', 'you@example.com');
SQL

sql() {
  printf 'user = root\npassword = root secret\nhosts = 127.0.0.1\ndbname = virtual_email\nquery = %s\n' "$2" > "/etc/postfix/$1.cf"
}
sql mysql-mailuser "SELECT 1 FROM email_user WHERE user_mail='%s'"
sql mysql-maildomain "SELECT 1 FROM email_user WHERE mail_domain='%s'"
sql mysql-mailaliase "SELECT mail_account FROM email_user WHERE mail_account='%s'"
echo "#query = SELECT destination FROM email_aliase WHERE aliase='%s'" >> /etc/postfix/mysql-mailaliase.cf
sql mysql-mailboxdir "SELECT mail_dir FROM email_user WHERE user_mail='%s'"
cat >> /etc/postfix/main.cf <<'END'
virtual_mailbox_base = /home/vmail
virtual_uid_maps = static:666
virtual_gid_maps = static:666
virtual_mailbox_domains = mysql:/etc/postfix/mysql-maildomain.cf
virtual_mailbox_maps = mysql:/etc/postfix/mysql-mailuser.cf
virtual_alias_maps = mysql:/etc/postfix/mysql-mailaliase.cf
virtual_mailbox_maps = mysql:/etc/postfix/mysql-mailboxdir.cf
smtpd_sasl_type = dovecot
smtpd_sasl_path = private/auth
smtpd_sasl_auth_enable = yes
END

cat > /etc/dovecot/dovecot-sql.conf.ext <<'END'
driver = mysql
connect = host=127.0.0.1 dbname=virtual_email user=root password=root secret
default_pass_scheme = PLAIN
password_query = SELECT user_mail as username, mail_domain as domain, mail_password as password FROM email_user WHERE user_no = '%n' AND mail_domain = '%d'
END
cd /etc/dovecot/conf.d
sed -i 's/^!include auth-system/#&/; s/^#!include auth-sql/!include auth-sql/; s/^auth_mechanisms = plain$/auth_mechanisms = plain login/' 10-auth.conf
cat > auth-sql.conf.ext <<'END'
passdb {
  driver = sql
  args = /etc/dovecot/dovecot-sql.conf.ext
}
userdb {
  driver = static
  args = uid=vmail gid=vmail home=/home/vmail/%d/%n
}
END
sed -i 's|^mail_location = .*|mail_location = maildir:/home/vmail/%d/%n|' 10-mail.conf
cat > 10-master.conf <<'END'
service lmtp {
  unix_listener /var/spool/postfix/private/dovecot-lmtp {
    mode = 0600
    user = postfix
    group = postfix
  }
}
service auth {
  unix_listener /var/spool/postfix/private/auth {
    mode = 0666
    user = postfix
    group = postfix
  }
  unix_listener auth-userdb {
    mode = 0600
    user = vmail
  }
  user = dovecot
}
service auth-worker {
  user = vmail
}
END
cat > 10-ssl.conf <<'END'
ssl = required
ssl_cert = /etc/ssl/certs/ssl-cert-snakeoil.pem
ssl_key = /etc/ssl/private/ssl-cert-snakeoil.key
ssl_cipher_list = PROFILE=SYSTEM
END
postfix reload
systemctl restart dovecot
