"""The login of MySQL 8 and 9 (caching_sha2_password), which no MariaDB of Debian offers.

A server that checks the password as MySQL does.

    nonce, 20 bytes   →   client: XOR(SHA256(password), SHA256(SHA256(SHA256(password)), nonce))
    01 03                 the server knew the password's hash: done
    01 04                 it did not: the password itself, over TLS as it is,
                          else under the server's RSA key (02 asks, 01 PEM tells)

After the login every query is answered with one row, the account's name. See MySQL's
"Caching_sha2_password information".
"""

from __future__ import annotations

import hashlib
import socket
import ssl
import struct
from threading import Thread
from types import TracebackType
from typing import Self

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

CLIENT_SSL = 0x800
NONCE = b"abcdefghijklmnopqrst"
OK = b"\0\0\0\2\0\0\0"
PLUGIN = b"caching_sha2_password"


class Sha2Server:
    """A server with one password on a loopback port, in a thread, because TLS begins in the middle of a connection.

    With `switch` it greets with another method first; `knows_hash` lets the short way succeed;
    `key` is told instead of its public key. `ways` lists how passwords came.
    """

    def __init__(
        self,
        password: bytes,
        *,
        knows_hash: bool = False,
        switch: bool = False,
        tls: ssl.SSLContext | None = None,
        key: bytes = b"",
    ) -> None:
        self.ways: list[str] = []
        self._password = password
        self._knows_hash = knows_hash
        self._switch = switch
        self._tls = tls
        self._key = rsa.generate_private_key(65537, 2048)
        form = (serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        self._public_key = key or self._key.public_key().public_bytes(*form)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._threads = [Thread(target=self._accept)]

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            thread = Thread(target=self._serve, args=(connection,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        conversation = _Conversation(connection)
        try:
            if self._log_in(conversation):
                while conversation.receive()[:1] == b"\x03":
                    conversation.answer()
            else:
                conversation.send(
                    b"\xff\x15\x04#28000Access denied for user 'mail'@'127.0.0.1' (using password: YES)"
                )
        except OSError:
            pass  # the client left
        finally:
            conversation.socket.close()

    def _log_in(self, conversation: _Conversation) -> bool:
        first = b"mysql_native_password" if self._switch else PLUGIN
        low, high = (
            struct.pack("<I", 0x001FF7DF & ~CLIENT_SSL | (CLIENT_SSL if self._tls else 0))[:2],
            b"\x1f\0",
        )
        conversation.send(
            b"\x0a9.1.0\0"
            + bytes(4)
            + NONCE[:8]
            + b"\0"
            + low
            + b"\xff\2\0"
            + high
            + b"\x15"
            + bytes(10)
            + NONCE[8:]
            + b"\0"
            + first
            + b"\0"
        )
        response = conversation.receive()
        if self._tls:
            conversation.socket = self._tls.wrap_socket(conversation.socket, server_side=True)
            response = conversation.receive()
        start = response.index(b"\0", 32) + 1
        proof = response[start + 1 : start + 1 + response[start]]
        if self._switch:
            conversation.send(b"\xfe" + PLUGIN + b"\0" + NONCE + b"\0")
            proof = conversation.receive()
        if self._knows_hash and proof == self._proof():
            self.ways.append("hash")
            conversation.send(b"\x01\x03")
            conversation.send(OK)
            return True
        conversation.send(b"\x01\x04")
        if self._full_password(conversation) != self._password + b"\0":
            return False
        conversation.send(OK)
        return True

    def _full_password(self, conversation: _Conversation) -> bytes:
        answer = conversation.receive()
        if answer != b"\x02":
            self.ways.append("tls" if self._tls else "clear")
            return answer
        self.ways.append("rsa")
        conversation.send(b"\x01" + self._public_key)
        # # MySQL's choice
        oaep = padding.OAEP(mgf=padding.MGF1(hashes.SHA1()), algorithm=hashes.SHA1(), label=None)  # noqa: S303
        mixed = self._key.decrypt(conversation.receive(), oaep)
        return bytes([byte ^ NONCE[number % 20] for number, byte in enumerate(mixed)])

    def _proof(self) -> bytes:
        once = hashlib.sha256(self._password).digest()
        mask = hashlib.sha256(hashlib.sha256(once).digest() + NONCE).digest()
        return bytes([a ^ b for a, b in zip(once, mask, strict=True)])


class _Conversation:
    """Packets over one connection, never a byte more than the next one's."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self._number = 0

    def send(self, payload: bytes) -> None:
        self.socket.sendall(len(payload).to_bytes(3, "little") + bytes([self._number]) + payload)
        self._number = (self._number + 1) & 0xFF

    def receive(self) -> bytes:
        header = self._exactly(4)
        self._number = header[3] + 1
        return self._exactly(int.from_bytes(header[:3], "little"))

    def answer(self) -> None:
        """Send one row."""
        name = b"\x03def\0\0\0\x04user\0\x0c\x2d\0\0\1\0\0\xfd\0\0\0\0\0"
        for payload in (b"\x01", name, b"\xfe\0\0\2\0", b"\x04mail", b"\xfe\0\0\2\0"):
            self.send(payload)

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            piece = self.socket.recv(size - len(data))
            if not piece:
                raise ConnectionResetError
            data += piece
        return data
