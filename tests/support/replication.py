"""A replica: told who its source is, and promoted when that is gone."""

from __future__ import annotations

import subprocess

from support.followed import PASSWORD, REPLICA
from support.mariadb import MariaDB
from support.process import program
from support.sql_server import SqlServer

OF_A_REPLICA = ("--server-id=2", "--log-slave-updates=ON")
"""Options of a second server, which logs what it replicates, too."""


def replicate(source: SqlServer, replica: SqlServer) -> None:
    """Have a server follow a source, which has a port, from where its own log ends, or its copy of the data."""
    source.run_sql(f"CREATE USER IF NOT EXISTS {REPLICA}@'127.0.0.1' IDENTIFIED BY '{PASSWORD}'")
    source.run_sql(f"GRANT REPLICATION SLAVE ON *.* TO {REPLICA}@'127.0.0.1'")
    if not isinstance(source, MariaDB):
        replica.run_sql(
            f"CHANGE REPLICATION SOURCE TO source_host = '127.0.0.1', source_port = {source.port}, source_user ="
            f" '{REPLICA}', source_password = '{PASSWORD}', source_auto_position = 1, get_source_public_key = 1;"
            "START REPLICA"
        )
        return
    replica.run_sql(
        "SET GLOBAL gtid_slave_pos = @@gtid_current_pos;"
        f"CHANGE MASTER TO master_host = '127.0.0.1', master_port = {source.port}, master_user = '{REPLICA}',"
        f" master_password = '{PASSWORD}', master_use_gtid = slave_pos, master_connect_retry = 1, master_ssl = 0;"
        "START SLAVE"
    )


def copy(source: MariaDB, replica: MariaDB, database: str) -> None:
    """Copy a database, with the place in the source's log at which the copy was made."""
    dump = [program("mariadb-dump", "mariadb-client"), "--no-defaults", "--user=root"]
    dump += [f"--socket={source.socket}", "--single-transaction", "--master-data", "--gtid"]
    text = subprocess.run([*dump, "--databases", database], capture_output=True, check=True).stdout
    load = [program("mariadb", "mariadb-client"), "--no-defaults", "--user=root"]
    subprocess.run([*load, f"--socket={replica.socket}"], input=text, check=True)
    replica.run_sql("RESET MASTER")  # its history is that of its source


def catch_up(source: MariaDB, replica: MariaDB) -> None:
    """Wait until a replica has all that its source has logged."""
    [(place,)] = source.run_sql("SELECT @@gtid_binlog_pos")
    [(late,)] = replica.run_sql("SELECT MASTER_GTID_WAIT(%s, 30)", place)
    assert not late, f"the replica is behind its source: {replica.run_sql('SHOW SLAVE STATUS')}"


def promote(replica: MariaDB) -> None:
    """Make a replica a source of its own."""
    replica.run_sql("STOP SLAVE; RESET SLAVE ALL")
