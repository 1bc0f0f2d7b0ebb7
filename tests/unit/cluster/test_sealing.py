from __future__ import annotations

import subprocess
import sys

from hypothesis import given
from hypothesis import strategies as st

from mailmapd.cache.table_cache import ABSENCE
from mailmapd.cluster.sealing import Sealer
from mailmapd.cluster.shared_answer import Place, SharedAnswer, decode

SECRET = b"s" * 32
SEALER, TWIN = Sealer(SECRET, "m:shared:"), Sealer(SECRET, "m:shared:")
STRANGER = Sealer(b"t" * 32, "m:shared:")
FOUND = st.binary() | st.lists(st.binary(), min_size=1, max_size=4).map(tuple) | st.just(ABSENCE)
SERVERS = st.frozensets(st.binary(min_size=8, max_size=8).map(bytes.hex), max_size=4)


@given(st.binary(max_size=99), st.binary(max_size=300))
def test_only_the_secret_opens(key: bytes, plain: bytes) -> None:
    """Who has the secret reads what another one has sealed, under its own name; nobody else, and nothing else."""
    name, guard = SEALER.answer("digest", key)
    assert (name, guard) == TWIN.answer("digest", key)
    sealed = SEALER.seal(name, plain)
    assert TWIN.open(name, sealed) == plain
    assert STRANGER.open(name, sealed) is None
    assert TWIN.open(SEALER.answer("digest", key + b"x")[0], sealed) is None
    assert TWIN.open(SEALER.answer("other", key)[0], sealed) is None
    for changed in (sealed[:-1], sealed + b"x", bytes([sealed[0] ^ 1]) + sealed[1:], b"", plain):
        assert TWIN.open(name, changed) is None


def test_names_say_nothing() -> None:
    """Names of the same key differ by table and by secret, hold nothing of it, and no two texts are taken for one."""
    names = [
        SEALER.answer("digest", b"a@example.com")[0],
        SEALER.answer("digesta", b"@example.com")[0],
        STRANGER.answer("digest", b"a@example.com")[0],
        SEALER.mark("digest"),
        SEALER.mark(),
    ]
    assert len(set(names)) == len(names)
    assert all(b"example" not in name for name in names)


def test_no_number_twice() -> None:
    """The same text is never the same bytes: neither of one run, nor of two."""
    sealed = {sealer.seal(b"name", b"text") for sealer in (SEALER, TWIN) for _ in range(100)}
    assert len(sealed) == 200


@given(FOUND, SERVERS, st.integers(0, 2**64 - 1), st.floats(0, 2e9))
def test_there_and_back(found: bytes, servers: frozenset[str], number: int, at: float) -> None:
    """What a host writes down of an answer is what another one reads."""
    answer = SharedAnswer.of(found, at, 7.0, Place((number, 1), "h", servers), b"marksmar")
    plain = answer.encode()
    assert plain is not None
    assert decode(plain) == answer
    assert answer.is_of("h")
    assert not answer.is_of("i")
    for length in range(len(plain)):
        decode(plain[:length])  # whatever it says, it is no defect
    assert decode(b"\2" + plain[1:]) is None


def test_only_imported_where_it_is_on() -> None:
    """A host with [cluster] alone loads neither the second level nor what it encrypts with."""
    code = (
        "import sys, mailmapd.cluster.bus, mailmapd.app.cluster\n"
        "names = ('mailmapd.cluster.sealing', 'mailmapd.cluster.second_level',"
        " 'cryptography.hazmat.primitives.ciphers.aead')\n"
        "print([name for name in names if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
