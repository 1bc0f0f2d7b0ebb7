-- A small mail database: mailboxes with their passwords, and aliases. Every query of mailmapd.toml finds its row by an index.
--
--   mysql < virtual_email.sql
--
-- Addresses are kept in lower case; utf8mb4_bin makes every comparison exact. Passwords carry their {SCHEME}: make one with
--   doveadm pw -s SHA512-CRYPT

CREATE DATABASE IF NOT EXISTS virtual_email CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
USE virtual_email;

CREATE TABLE IF NOT EXISTS email_user (
  user_no        varchar(32)  NOT NULL COMMENT 'the part before @',
  mail_account   varchar(128) NOT NULL COMMENT 'the whole address',
  mail_password  varchar(255) NOT NULL COMMENT '{SCHEME} and hash',
  mail_domain    varchar(64)  NOT NULL,
  mail_dir       varchar(128) NOT NULL COMMENT 'below the mail folder, with a slash at the end',
  PRIMARY KEY (mail_domain, user_no),
  UNIQUE KEY mail_account (mail_account)
) ENGINE = InnoDB;

CREATE TABLE IF NOT EXISTS email_aliase (
  aliase         varchar(128)  NOT NULL COMMENT 'an address, or @domain for all others of a domain',
  destination    varchar(1024) NOT NULL COMMENT 'addresses, separated by commas',
  PRIMARY KEY (aliase)
) ENGINE = InnoDB;
