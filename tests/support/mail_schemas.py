"""Five kinds of mail databases with their dovecot-sql.conf.ext queries, after what widespread installations do.

Each has the same people where its schema can say so: active, disabled, disabled for one service,
without a password, with a quota of zero.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

PASSWORD = "s3cret pass"


@dataclass(frozen=True)
class MailSchema:
    """One installation.

    SQL that makes its tables and rows, and what its dovecot-sql.conf.ext says beside driver and
    connect.
    """

    name: str
    sql: str
    settings: str
    prefetch: bool = False
    static_userdb: bool = False

    @property
    def users(self) -> list[str]:
        """Every user name in the rows, and names that are in none."""
        named = re.findall(r"'((?:[^' ]|'')+@(?:[^' ]|'')+)'", self.sql)
        return sorted(
            {name.replace("''", "'") for name in named}
            | {"active", "unknown@example.com", "ACTIVE@example.com"}
        )


USER_TABLE = MailSchema(
    "users",
    """
    CREATE TABLE users (id int AUTO_INCREMENT PRIMARY KEY, email varchar(100) NOT NULL UNIQUE, password varchar(150) NOT NULL,
                        quota bigint NOT NULL DEFAULT 0);
    INSERT INTO users (email, password, quota) VALUES
      ('active@example.com', '{SHA512-CRYPT}HASH', 0), ('quota@example.com', '{SHA512-CRYPT}HASH', 1048576),
      ('o''hara@example.com', '{SHA512-CRYPT}HASH', 0), ('zoë@example.com', '{SHA512-CRYPT}HASH', 0);
    """,
    """\
user_query = SELECT email AS user, \\
  concat('*:bytes=', quota) AS quota_rule, \\
  '/srv/mail/%d/%n' AS home, 5000 AS uid, 5000 AS gid \\
  FROM users WHERE email='%u';
password_query = SELECT password FROM users WHERE email='%u';
iterate_query = SELECT email AS user FROM users
""",
)

ACTIVE_FLAG = MailSchema(
    "active",
    """
    CREATE TABLE mailbox (username varchar(255) PRIMARY KEY, password varchar(255) NOT NULL, maildir varchar(255) NOT NULL,
                          quota bigint NOT NULL DEFAULT 0, active tinyint NOT NULL DEFAULT 1, smtp_active tinyint NOT NULL DEFAULT 1);
    INSERT INTO mailbox VALUES
      ('active@example.com', 'HASH', 'example.com/active/', 0, 1, 1), ('disabled@example.com', 'HASH', 'example.com/disabled/', 0, 0, 1),
      ('quota@example.com', 'HASH', 'example.com/quota/', 5120000, 1, 0), ('empty@example.com', '', 'example.com/empty/', 0, 1, 1);
    """,
    """\
default_pass_scheme = SHA512-CRYPT
password_query = SELECT username AS user,password FROM mailbox WHERE username = '%u' AND \\
  (('%s' = 'smtp' AND smtp_active = '1') OR ('%s' <> 'smtp' AND active = '1'))
user_query = SELECT CONCAT('/var/mail/vmail/', maildir) AS home, 1001 AS uid, 1001 AS gid, CONCAT('*:bytes=', quota) AS quota_rule \\
  FROM mailbox WHERE username = '%u' AND active='1'
iterate_query = SELECT username as user FROM mailbox WHERE active = '1'
""",
)

SERVICE_COLUMNS = MailSchema(
    "columns",
    """
    CREATE TABLE domain (domain varchar(255) PRIMARY KEY, backupmx tinyint NOT NULL DEFAULT 0, active tinyint NOT NULL DEFAULT 1);
    CREATE TABLE mailbox (username varchar(255) PRIMARY KEY, password varchar(255), domain varchar(255) NOT NULL, quota bigint NOT NULL,
      base varchar(255) NOT NULL DEFAULT '/var/vmail', maildir varchar(255) NOT NULL, allow_nets text,
      enableimap tinyint NOT NULL DEFAULT 1, enableimapsecured tinyint NOT NULL DEFAULT 1, enableimaptls tinyint NOT NULL DEFAULT 1,
      enablepop3 tinyint NOT NULL DEFAULT 1, enablepop3secured tinyint NOT NULL DEFAULT 1, enablepop3tls tinyint NOT NULL DEFAULT 1,
      enablelmtp tinyint NOT NULL DEFAULT 1, enablesieve tinyint NOT NULL DEFAULT 1, enabledoveadm tinyint NOT NULL DEFAULT 1,
      active tinyint NOT NULL DEFAULT 1);
    INSERT INTO domain VALUES ('example.com', 0, 1), ('backup.example', 1, 1);
    INSERT INTO mailbox (username, password, domain, quota, maildir) VALUES
      ('active@example.com', '{SHA512-CRYPT}HASH', 'example.com', 0, 'Example.com/A/Active-1/'),
      ('disabled@example.com', 'HASH', 'example.com', 100, 'example.com/d/'),
      ('nopop@example.com', 'HASH', 'example.com', 100, 'example.com/n/'),
      ('nets@example.com', 'HASH', 'example.com', 100, 'example.com/nets/'),
      ('null@example.com', NULL, 'example.com', 0, 'example.com/null/'),
      ('user@backup.example', 'HASH', 'backup.example', 0, 'backup.example/user/');
    UPDATE mailbox SET active = 0 WHERE username = 'disabled@example.com';
    UPDATE mailbox SET enablepop3 = 0 WHERE username = 'nopop@example.com';
    UPDATE mailbox SET allow_nets = '192.0.2.0/24,198.51.100.7' WHERE username = 'nets@example.com';
    """,
    """\
default_pass_scheme = CRYPT
iterate_query = SELECT username AS user FROM mailbox

password_query = SELECT mailbox.password, mailbox.allow_nets \\
        FROM mailbox,domain \\
       WHERE mailbox.username='%u' AND mailbox.enable%Ls%Lc=1 AND mailbox.active=1 \\
             AND mailbox.domain=domain.domain AND domain.backupmx=0 AND domain.active=1

user_query = SELECT LOWER('%u') AS master_user, \\
            LOWER(CONCAT(mailbox.base, '/', mailbox.maildir)) AS home, \\
            'maildir:~/Maildir' AS mail, 2000 AS uid, 2000 AS gid, \\
            CONCAT('*:bytes=', mailbox.quota*1048576) AS quota_rule \\
        FROM mailbox,domain \\
       WHERE mailbox.username='%u' AND mailbox.enable%Ls%Lc=1 AND mailbox.active=1 \\
             AND mailbox.domain=domain.domain AND domain.backupmx=0 AND domain.active=1
""",
)

SERVICE_WORDS = MailSchema(
    "words",
    """
    CREATE TABLE mail_users (id int AUTO_INCREMENT PRIMARY KEY, email varchar(255) NOT NULL, username varchar(255) NOT NULL,
      password_enc varchar(255) NOT NULL, uid int NOT NULL, gid int NOT NULL, homedir varchar(255) NOT NULL, maildir varchar(255) NOT NULL,
      postfix enum('Y','N') NOT NULL DEFAULT 'Y', quota int NOT NULL DEFAULT 0,
      pop3 tinyint NOT NULL DEFAULT 1, imap tinyint NOT NULL DEFAULT 1);
    INSERT INTO mail_users VALUES
      (1, 'active@example.com', 'web1@example.com', 'HASH', 2000, 2000, '/var/customers/mail/', 'web1/active/', 'Y', 100, 1, 1),
      (2, 'nopop@example.com', 'nopop@example.com', 'HASH', 2000, 2000, '/var/customers/mail/', 'web1/nopop/', 'Y', 0, 0, 1),
      (3, 'disabled@example.com', 'disabled@example.com', 'HASH', 2000, 2000, '/var/customers/mail/', 'web1/disabled/', 'N', 0, 0, 0);
    """,
    """\
#default_pass_scheme = CRYPT
default_pass_scheme = SHA512-CRYPT
user_query = SELECT CONCAT(homedir, maildir) AS home, CONCAT('maildir:', homedir, maildir) AS mail, uid, gid, \\
  CONCAT('*:storage=', quota, 'M') as quota_rule FROM mail_users WHERE (username = '%u' OR email = '%u')
password_query = SELECT username AS user, password_enc AS password, CONCAT(homedir, maildir) AS userdb_home, uid AS userdb_uid, \\
  gid AS userdb_gid, CONCAT('maildir:', homedir, maildir) AS userdb_mail, CONCAT('*:storage=', quota, 'M') as userdb_quota_rule \\
  FROM mail_users WHERE (username = '%u' OR email = '%u') AND \\
  ((imap = 1 AND '%Ls' = 'imap') OR (pop3 = 1 AND '%Ls' = 'pop3') OR (postfix = 'Y' AND '%Ls' IN ('smtp', 'sieve')))
iterate_query = "SELECT username AS user FROM mail_users WHERE (imap = 1 OR pop3 = 1)"
""",
    prefetch=True,
)

PREFETCH_ONLY = MailSchema(
    "prefetch",
    """
    CREATE TABLE mailbox (id bigint AUTO_INCREMENT PRIMARY KEY, username varchar(255) NOT NULL UNIQUE, password varchar(255) NOT NULL,
      active tinyint NOT NULL DEFAULT 1, homedir varchar(255), uid bigint, gid bigint);
    INSERT INTO mailbox (username, password, active, homedir, uid, gid) VALUES
      ('active@example.com', '{SHA512-CRYPT}HASH', 1, '/srv/vmail/example.com/active', 2000, 2000),
      ('null@example.com', '{SHA512-CRYPT}HASH', 1, NULL, NULL, NULL);
    """,
    """\
password_query = \\
  SELECT username AS user, password, \\
    homedir AS userdb_home, uid AS userdb_uid, gid AS userdb_gid \\
  FROM mailbox WHERE username = '%u'
iterate_query = SELECT username AS user FROM mailbox
""",
    prefetch=True,
    static_userdb=True,
)

TUTORIAL = MailSchema(
    "tutorial",
    """
    CREATE TABLE email_user (user_no varchar(32) NOT NULL, mail_account varchar(128) NOT NULL, mail_password varchar(128) NOT NULL,
      mail_domain varchar(64) NOT NULL, mail_dir varchar(128) NOT NULL, PRIMARY KEY (mail_domain, user_no));
    INSERT INTO email_user VALUES
      ('active', 'active@example.com', 's3cret pass', 'example.com', 'example.com/active/'),
      ('active', 'active@example.net', '{odd}plain', 'example.net', 'example.net/active/');
    """,
    """\
default_pass_scheme = PLAIN
password_query = SELECT mail_account AS username, mail_domain AS domain, mail_password AS password \\
  FROM email_user WHERE user_no = '%n' AND mail_domain = '%d'
user_query = SELECT CONCAT('/home/vmail/', mail_domain, '/', user_no) AS home, 666 AS uid, 666 AS gid \\
  FROM email_user WHERE user_no = '%n' AND mail_domain = '%d'
iterate_query = SELECT user_no AS username, mail_domain AS domain FROM email_user
""",
)

SCHEMAS = (USER_TABLE, ACTIVE_FLAG, SERVICE_COLUMNS, SERVICE_WORDS, PREFETCH_ONLY, TUTORIAL)
SERVICES = ("imap", "pop3", "lmtp", "sieve")
