"""A crowd of clients that are no use to anybody, as a process of its own.

`python -m support.crowd PATH IDLE SLOW DEAF`.

IDLE connections say nothing, SLOW ones send one byte of a request per second, DEAF ones ask for
long values (of the map ``long``) and never read a reply. It prints a line when all are connected
and every deaf one could read, and goes on until it is killed.
"""

from __future__ import annotations

import resource
import select
import socket
import sys
import time
from contextlib import suppress

LONG = b"long user1@example.com"
QUESTIONS = 12  # of each deaf client: their replies fill every buffer there is
REQUEST = b"27:mailboxes user1@example.com,"


def connect(path: str, count: int) -> list[socket.socket]:
    """Return that many connections."""
    found = []
    for _ in range(count):
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(path)
        connection.setblocking(False)
        found.append(connection)
    return found


def wait_for_reply(connection: socket.socket) -> None:
    """Wait until there is something to be read, and leave it there."""
    waiting = select.poll()
    waiting.register(connection, select.POLLIN)
    waiting.poll()


def main(path: str, idle: int, slow: int, deaf: int) -> None:
    """Annoy the server at `path` for ever."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    silent = connect(path, idle)
    crawling = connect(path, slow)
    not_listening = connect(path, deaf)
    for connection in not_listening:
        connection.send(b"%d:%b," % (len(LONG), LONG) * QUESTIONS)
    for connection in not_listening:
        wait_for_reply(connection)
    print("connected", len(silent) + len(crawling) + len(not_listening), flush=True)
    position = 0
    while True:
        time.sleep(1.0)
        for connection in crawling:
            with suppress(OSError):
                connection.send(REQUEST[position : position + 1])
        position = (position + 1) % len(REQUEST)


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:5]))
