"""mysql-replication reads changed rows from a log; it keeps and forgets nothing. Runs in the peers' environment.

    python replication_peer.py SOCKET FILE POSITION TABLE ROWS

Prints {"rows", "seconds"}: the seconds of processor time from before the stream begins until the last row is read.
"""

from __future__ import annotations

import json
import sys
import time

from pymysqlreplication import BinLogStreamReader  # type: ignore[import-not-found]
from pymysqlreplication.row_event import UpdateRowsEvent  # type: ignore[import-not-found]

SERVER_ID = 4711


def main() -> None:
    """Read so many rows of one table from a place in the log."""
    socket, file, position, table, wanted = sys.argv[1:]
    rows, began = 0, time.process_time()
    stream = BinLogStreamReader(
        connection_settings={"unix_socket": socket, "user": "root"},
        server_id=SERVER_ID,
        blocking=True,
        resume_stream=True,
        log_file=file,
        log_pos=int(position),
        only_events=[UpdateRowsEvent],
        only_tables=[table],
    )
    for event in stream:
        rows += len(event.rows)
        if rows >= int(wanted):
            break
    print(json.dumps({"rows": rows, "seconds": time.process_time() - began}))
    stream.close()


if __name__ == "__main__":
    main()
