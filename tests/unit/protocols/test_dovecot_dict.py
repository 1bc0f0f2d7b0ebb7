from __future__ import annotations

import pytest

from mailmapd.errors import ProtocolError
from mailmapd.model import (
    NOT_FOUND,
    Answer,
    DictCommit,
    DictIterate,
    DictLookup,
    Found,
    PermFail,
    Query,
    TempFail,
)
from mailmapd.protocols import Codec, DictCodec, lines
from mailmapd.protocols.dovecot_dict import (
    BAD_HELLO,
    LINE_LIMIT,
    NO_HELLO,
    REASONS,
    UNKNOWN_COMMAND,
    UNSUPPORTED_VERSION,
)
from mailmapd.protocols.dovecot_dict_transactions import BAD_ARGUMENTS, BAD_TRANSACTION
from mailmapd.protocols.reason import REASON_LIMIT
from support.codecs import Outcome, byte_by_byte, feed

HELLO = b"H3\t2\t0\t\tauth\n"
LOOKUP = DictLookup("auth", b"shared/passdb/anna", b"anna")
ITERATE = DictIterate("auth", b"shared/userdb/", b"*", 0, False)
COMMIT = DictCommit("auth", 7, wants_reply=True)


def refusal(data: bytes) -> str | None:
    whole = feed(DictCodec(), [data])
    assert feed(DictCodec(), byte_by_byte(data)) == whole
    assert whole.queries == []
    assert whole.refusal in REASONS
    return whole.refusal


@pytest.mark.parametrize("major", [2, 3, 4])
def test_hello_has_no_reply(major: int) -> None:
    """The hello of every known version names the dict and is not a query."""
    codec = DictCodec()
    assert codec.dict_name is None
    assert feed(codec, [b"H%d\t2\t0\t\tauth\n" % major]) == Outcome([], None)
    assert codec.dict_name == "auth"


def test_dict_name_is_any_bytes() -> None:
    """A dict name that is not UTF-8, or has escapes, is decoded, for the caller to refuse."""
    codec = DictCodec()
    feed(codec, [b"H3\t2\t0\t\ta\xff\x01t\n"])
    assert codec.dict_name == "a\udcff\t"


@pytest.mark.parametrize(
    "data", [b"H1\t0\t0\t\tauth\n", b"H5\t0\t0\t\tauth\n", b"H4294967295\t0\t0\t\tauth\n"]
)
def test_refuses_other_versions(data: bytes) -> None:
    """Another major version is refused."""
    assert refusal(data) == UNSUPPORTED_VERSION


@pytest.mark.parametrize(
    "data",
    [
        b"H\n",
        b"H3\t2\t0\tauth\n",
        b"Hx\t2\t0\t\tauth\n",
        b"H3\tx\t0\t\tauth\n",
        b"H-3\t2\t0\t\tauth\n",
    ],
)
def test_refuses_a_broken_hello(data: bytes) -> None:
    """A hello needs numbers for its version and five arguments."""
    assert refusal(data) == BAD_HELLO


@pytest.mark.parametrize(
    "data",
    [b"Lshared/passdb/anna\tanna\n", b"\n", b"VERSION\tdict\n", b"24:mailbox user@example.com,\n"],
)
def test_hello_comes_first(data: bytes) -> None:
    """A command before the hello is refused."""
    assert refusal(data) == NO_HELLO


@pytest.mark.parametrize("line", [b"", b"H3\t2\t0\t\tauth", b"X1", b"l", b"\xff", b"\x01L"])
def test_refuses_unknown_commands(line: bytes) -> None:
    """A line that begins with no known letter is refused, a second hello and an empty line included."""
    assert refusal(HELLO + line + b"\n") == UNKNOWN_COMMAND


@pytest.mark.parametrize(
    "line",
    [
        b"I0\t0",
        b"Ix\t0\tshared/",
        b"I0\tx\tshared/",
        b"I0\t-1\tshared/",
        b"I0\t99999999999999999999\tshared/",
    ],
)
def test_refuses_a_broken_iterate(line: bytes) -> None:
    """ITERATE needs flags, a row limit and a prefix."""
    assert refusal(HELLO + line + b"\n") == BAD_ARGUMENTS


def test_refuses_several_prefixes() -> None:
    """Version 2 could iterate over several prefixes at once, which nothing in Dovecot does."""
    assert refusal(b"H2\t2\t0\t\tauth\nI0\t0\ta/\tb/\n") == BAD_ARGUMENTS


@pytest.mark.parametrize(
    "line", [b"C1", b"D1", b"R1", b"S1\tk\tv", b"U1\tk", b"A1\tk\t1", b"T1\t1\t1", b"V1\tyes", b"C"]
)
def test_refuses_unknown_transactions(line: bytes) -> None:
    """A command for a transaction that was not begun is refused."""
    assert refusal(HELLO + line + b"\n") == BAD_TRANSACTION


@pytest.mark.parametrize("end", [b"", b"\n"])
def test_longest_line(end: bytes) -> None:
    """A line has at most 64 KiB with its LF, finished or not."""
    longest = b"L" + b"k" * (LINE_LIMIT - 2)
    assert feed(DictCodec(), [HELLO, longest + b"\n"]).queries == [
        DictLookup("auth", longest[1:], b"")
    ]
    assert feed(DictCodec(), [HELLO, longest + b"k" + end]) == Outcome([], lines.TOO_LONG)


def test_extra_arguments_of_a_lookup_are_ignored() -> None:
    """A later minor version may add arguments to LOOKUP and ITERATE."""
    outcome = feed(DictCodec(), [HELLO, b"Lk\tu\tmore\nI0\t0\tp\tm\tmore\n"])
    assert outcome == Outcome(
        [DictLookup("auth", b"k", b"u"), DictIterate("auth", b"p", b"m", 0, False)], None
    )


def test_odd_names_pass() -> None:
    """A user name with tabs, NUL, quotes, LF or kilobytes of é comes through as it is."""
    user = b"\t\0'\"\n\\" + "é".encode() * 2048
    argument = b"\x01t\x010'\"\x01n\\" + "é".encode() * 2048
    outcome = feed(DictCodec(), [HELLO + b"Lshared/passdb/" + argument + b"\t" + argument + b"\n"])
    assert outcome == Outcome([DictLookup("auth", b"shared/passdb/" + user, user)], None)


def test_stays_refused() -> None:
    """After a refusal good commands are dropped and the error is raised again."""
    codec = DictCodec()
    codec.receive_data(HELLO + b"X\nLk\tu\n")
    for _ in range(2):
        with pytest.raises(ProtocolError) as caught:
            codec.next_query()
        assert caught.value.reason == UNKNOWN_COMMAND
        codec.receive_data(b"Lk\tu\n")
    assert codec.buffered == 0


@pytest.mark.parametrize(
    ("query", "answer", "reply"),
    [
        (LOOKUP, Found(b'{"a": "\t"}\n'), b'O{"a": "\x01t"}\x01n\n'),
        (LOOKUP, NOT_FOUND, b"N\n"),
        (LOOKUP, TempFail("down"), b"Fdown\n"),
        (LOOKUP, PermFail("no such key"), b"Fno such key\n"),
        (ITERATE, NOT_FOUND, b"\n"),
        (ITERATE, Found(b"1"), b"\n"),
        (ITERATE, TempFail("a\nb\tc\x01d"), b"Fa b c?d\n"),
        (ITERATE, PermFail("no iterate table"), b"Fno iterate table\n"),
        (COMMIT, Found(b"1"), b"O7\n"),
        (COMMIT, NOT_FOUND, b"N7\n"),
        (COMMIT, TempFail("down"), b"F7\tdown\n"),
        (COMMIT, PermFail("read only"), b"F7\tread only\n"),
    ],
)
def test_replies(
    query: DictLookup | DictIterate | DictCommit, answer: Answer, reply: bytes
) -> None:
    """Each answer becomes the reply that Dovecot reads; a failure is never N."""
    assert DictCodec().encode(query, answer) == reply


def test_large_values_are_whole() -> None:
    """Dovecot's client has no limit for replies, so a value is never cut or refused."""
    assert DictCodec().encode(LOOKUP, Found(b"v" * 1_000_000)) == b"O" + b"v" * 1_000_000 + b"\n"


def test_reasons_are_short() -> None:
    """A reason of any length is cut, not sent."""
    assert len(DictCodec().encode(COMMIT, TempFail("x" * 1_000_000))) < REASON_LIMIT + 20


def test_no_row_outside_the_prefix() -> None:
    """A row that would crash Dovecot's auth-worker is an error of the caller."""
    with pytest.raises(ValueError, match="outside the prefix"):
        DictCodec().encode_rows(ITERATE, [(b"shared/passdb/anna", b"1")])


def test_reasons_are_listed_once() -> None:
    """REASONS has no word twice: each labels one metric."""
    assert len(set(REASONS)) == len(REASONS)


def test_is_a_codec() -> None:
    """A connection can use the receiving half as a Codec."""
    codec: Codec[Query] = DictCodec()
    assert codec.buffered == 0
