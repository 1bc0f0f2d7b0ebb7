# Read by the MariaDB image when it makes the data of db1: a table of aliases, and the two accounts of mailmapd. db2 gets all of it by replication.
secrets=${SECRETS:-/run/secrets}
docker_process_sql <<SQL
CREATE DATABASE mail;
CREATE TABLE mail.alias (address VARCHAR(254) PRIMARY KEY, destination TEXT NOT NULL);
CREATE USER 'mail'@'%' IDENTIFIED BY '$(cat "$secrets/mail-db-password")';
GRANT SELECT ON mail.* TO 'mail'@'%';
CREATE USER 'mailmapd-changes'@'%' IDENTIFIED BY '$(cat "$secrets/mail-db-changes")';
GRANT REPLICATION SLAVE ON *.* TO 'mailmapd-changes'@'%';
SQL
