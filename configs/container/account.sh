# Read by the MariaDB image when it makes its database: mailmapd's account, which may read the mail database and nothing else.
docker_process_sql <<SQL
CREATE USER 'mailmapd'@'localhost' IDENTIFIED BY '$(cat /run/secrets/mail-db-password)';
GRANT SELECT ON virtual_email.* TO 'mailmapd'@'localhost';
SQL
