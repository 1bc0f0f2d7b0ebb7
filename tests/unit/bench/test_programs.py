from __future__ import annotations

import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bench import programs
from support.process import ServerFailed, ServerProcess, wait_until


@contextmanager
def serving(command: list[str], path: Path) -> Iterator[None]:
    process = ServerProcess(command, path.with_suffix(".log"))
    try:
        process.wait_ready(path.is_socket, command[0])
        yield
    finally:
        process.stop()


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder in which the programs are compiled, once."""
    return tmp_path_factory.mktemp("programs")


@pytest.fixture
def floor(short_path: Path, built: Path) -> Iterator[Path]:
    """A running echo_floor."""
    path = short_path / "floor.sock"
    with serving([programs.build("echo_floor", built), str(path), "socketmap"], path):
        yield path


def load(
    built: Path, endpoint: Path, keys: list[str], *options: str, protocol: str = "socketmap"
) -> programs.Figures:
    file = endpoint.with_suffix(".keys")
    file.write_text("".join(f"{key}\n" for key in keys))
    return programs.figures(
        [programs.build("lookup_load", built), *options, protocol, str(endpoint), str(file), "map"]
    )


def test_every_key_in_order(floor: Path, built: Path) -> None:
    """Asked for all keys in order, the load generator counts one reply for each."""
    figures = load(
        built,
        floor,
        [f"user{number}@d.example" for number in range(500)],
        "-o",
        "-n",
        "500",
        "-c",
        "7",
    )
    assert (figures["lookups"], figures["notfound"], figures["found"]) == (500, 500, 0)


def test_warm_up_is_not_measured(floor: Path, built: Path) -> None:
    """Requests before the measurement are sent and not counted."""
    assert load(built, floor, ["a", "b"], "-n", "100", "-w", "50")["lookups"] == 100


@contextmanager
def recording(path: Path, asked: list[bytes], reply: bytes = b"9:NOTFOUND ,") -> Iterator[None]:
    """Answer one client, and write down the keys that it asks for."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                while request := connection.recv(1000):
                    asked.append(request.rpartition(b" ")[2].rstrip(b","))
                    connection.sendall(reply)

        server = threading.Thread(target=serve)
        server.start()
        yield
        server.join()


def test_malformed_reply(built: Path, tmp_path: Path) -> None:
    """A server of another protocol is an error, not a rate."""
    served = tmp_path / "other"
    with recording(served, [], b"220 ready\r\n"), pytest.raises(ServerFailed, match="malformed"):
        load(built, served, ["a"], "-n", "1")


def asked_with(short_path: Path, built: Path, *options: str) -> list[bytes]:
    """Return what the load generator asks for, of a hundred keys."""
    asked: list[bytes] = []
    path = short_path / "asked.sock"
    path.unlink(missing_ok=True)
    with recording(path, asked):
        figures = load(built, path, [f"key{number}" for number in range(1, 101)], *options)
    if "-s" in options:
        assert figures["seed"] == int(options[options.index("-s") + 1])
    return asked


def test_zipf(short_path: Path, built: Path) -> None:
    """With a zipf choice, a key is asked about in proportion to one over its line."""
    asked = Counter(asked_with(short_path, built, "-z", "1", "-n", "4000"))
    assert 1.5 < asked[b"key1"] / asked[b"key2"] < 2.7
    assert asked[b"key1"] > 20 * asked[b"key100"]


def test_seed(short_path: Path, built: Path) -> None:
    """A seed repeats its sequence, which stands in the output; another seed draws another one."""
    first, again, other = (
        asked_with(short_path, built, "-n", "200", "-s", seed)
        for seed in ("12", "12", "4294967295")
    )
    assert first == again
    assert first != other


def test_long_measurement(short_path: Path, built: Path) -> None:
    """A measurement that needs more draws than were made before its start goes on drawing, and does not begin again."""
    whole = asked_with(short_path, built, "-n", "200", "-s", "5")
    command = [programs.COMPILER, "-O2", "-DCHOICES=50", str(programs.SOURCES / "lookup_load.c")]
    folder = short_path / "few-choices"
    folder.mkdir()
    subprocess.run([*command, "-o", str(folder / "lookup_load"), "-lm"], check=True)
    path, asked = short_path / "few.sock", list[bytes]()
    keys = short_path / "keys"
    keys.write_text("".join(f"key{number}\n" for number in range(1, 101)))
    with recording(path, asked):
        options = ["-n", "200", "-s", "5", "socketmap", str(path), str(keys), "map"]
        programs.figures([str(folder / "lookup_load"), *options])
    assert asked == whole


def test_delay(short_path: Path, built: Path) -> None:
    """A question and its answer through the delay proxy take no less than twice its delay."""
    server, proxy = short_path / "floor.sock", short_path / "proxy.sock"
    delay = 20_000
    command = [programs.build("delay_proxy", built), str(proxy), str(server), str(delay)]
    floor = [programs.build("echo_floor", built), str(server), "socketmap"]
    with serving(floor, server), serving(command, proxy), socket.socket(socket.AF_UNIX) as client:
        # Its socket is there a moment before it listens
        wait_until(lambda: client.connect_ex(str(proxy)) == 0, "the proxy to listen")
        started = time.monotonic()
        client.sendall(b"5:map k,")
        assert client.recv(100) == b"9:NOTFOUND ,"
        assert time.monotonic() - started >= 2 * delay / 1e6


def test_two_clients_of_the_proxy(short_path: Path, built: Path) -> None:
    """Every client of the delay proxy gets the replies to its own questions, also when another one
    has gone meanwhile.
    """
    server, proxy = short_path / "cat.sock", short_path / "proxy.sock"
    command = [programs.build("delay_proxy", built), str(proxy), str(server), "2000"]
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(server))
        listener.listen()
        with serving(command, proxy):
            clients = [socket.socket(socket.AF_UNIX) for _ in range(3)]
            servers = []
            for client in clients:
                client.connect(str(proxy))
                servers.append(listener.accept()[0])
            for number, accepted in enumerate(servers):
                accepted.sendall(b"to %d" % number)
            clients[0].close()
            received = [client.recv(100) for client in clients[1:]]
            for end in (*clients, *servers):
                end.close()
    assert received == [b"to 1", b"to 2"]
