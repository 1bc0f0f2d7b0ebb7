from __future__ import annotations

from collections.abc import Callable

import pytest

from mailmapd.errors import ProtocolError
from mailmapd.protocols.dovecot_dict_transactions import (
    BAD_ARGUMENTS,
    BAD_TRANSACTION,
    CHANGE_BYTES_LIMIT,
    CHANGE_LIMIT,
    REASONS,
    TOO_MANY_CHANGES,
    TOO_MANY_TRANSACTIONS,
    TRANSACTION_LIMIT,
    Transactions,
)


def begun(user: bytes = b"anna") -> Transactions:
    transactions = Transactions()
    transactions.begin([b"1", user], b"")
    return transactions


def test_changes_keep_their_order() -> None:
    """The changes of a transaction come back as they were sent, with its user, and only once."""
    transactions = begun()
    transactions.set([b"1", b"key", b"value"])
    transactions.unset([b"1", b"key"])
    transactions.increment([b"1", b"count", b"-3"])
    transaction_id, transaction = transactions.end([b"1"])
    assert (transaction_id, transaction.user) == (1, b"anna")
    assert transaction.changes == [
        ("S", b"key", b"value"),
        ("U", b"key", b""),
        ("A", b"count", b"-3"),
    ]
    with pytest.raises(ProtocolError):
        transactions.end([b"1"])


def test_transactions_do_not_mix() -> None:
    """Changes go to the transaction they name, and ids are numbers: 01 is 1."""
    transactions = begun()
    transactions.begin([b"2"], b"default")
    transactions.set([b"01", b"a", b"1"])
    transactions.set([b"2", b"b", b"2"])
    assert transactions.end([b"2"])[1].changes == [("S", b"b", b"2")]
    assert transactions.end([b"1"])[1].changes == [("S", b"a", b"1")]


def test_default_user() -> None:
    """BEGIN without a user takes the connection's; an empty user is a user."""
    transactions = Transactions()
    transactions.begin([b"1"], b"default")
    transactions.begin([b"2", b""], b"default")
    assert transactions.end([b"1"])[1].user == b"default"
    assert transactions.end([b"2"])[1].user == b""


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (lambda open_: open_.begin([b"1", b"u"], b""), BAD_TRANSACTION),
        (lambda open_: open_.begin([b"x"], b""), BAD_TRANSACTION),
        (lambda open_: open_.begin([b""], b""), BAD_TRANSACTION),
        (lambda open_: open_.begin([b"-1"], b""), BAD_TRANSACTION),
        (lambda open_: open_.begin([b"4294967296"], b""), BAD_TRANSACTION),
        (lambda open_: open_.begin([b"2", b"u", b"soon"], b""), BAD_ARGUMENTS),
        (lambda open_: open_.set([b"2", b"k", b"v"]), BAD_TRANSACTION),
        (lambda open_: open_.set([b"1", b"k"]), BAD_ARGUMENTS),
        (lambda open_: open_.set([b"1", b"k", b"v", b"w"]), BAD_ARGUMENTS),
        (lambda open_: open_.unset([b"1"]), BAD_ARGUMENTS),
        (lambda open_: open_.unset([b"1", b"k", b"v"]), BAD_ARGUMENTS),
        (lambda open_: open_.unset([b"2", b"k"]), BAD_TRANSACTION),
        (lambda open_: open_.increment([b"1", b"k", b"many"]), BAD_ARGUMENTS),
        (lambda open_: open_.increment([b"1", b"k"]), BAD_ARGUMENTS),
        (lambda open_: open_.set_timestamp([b"1", b"1"]), BAD_ARGUMENTS),
        (lambda open_: open_.set_timestamp([b"1", b"now", b"0"]), BAD_ARGUMENTS),
        (lambda open_: open_.set_timestamp([b"2", b"1", b"0"]), BAD_TRANSACTION),
        (lambda open_: open_.hide_values([b"1"]), BAD_ARGUMENTS),
        (lambda open_: open_.hide_values([b"2", b"yes"]), BAD_TRANSACTION),
        (lambda open_: open_.end([b"2"]), BAD_TRANSACTION),
        (lambda open_: open_.end([b"1", b"x"]), BAD_ARGUMENTS),
    ],
)
def test_refuses_what_makes_no_sense(call: Callable[[Transactions], object], reason: str) -> None:
    """Unknown and used ids, wrong numbers of arguments and words for numbers are refused with a word from REASONS."""
    with pytest.raises(ProtocolError) as caught:
        call(begun())
    assert caught.value.reason == reason
    assert reason in REASONS


def test_time_and_hiding_change_nothing() -> None:
    """TIMESTAMP and HIDE_LOG_VALUES are accepted and are no changes."""
    transactions = begun()
    transactions.set_timestamp([b"1", b"-5", b"999999999"])
    transactions.hide_values([b"1", b"yes"])
    assert transactions.end([b"1"])[1].changes == []


def test_open_transactions_are_limited() -> None:
    """A client cannot open transactions without end, but as many as it likes one after the other."""
    transactions = Transactions()
    for number in range(TRANSACTION_LIMIT):
        transactions.begin([b"%d" % number], b"")
    transactions.end([b"0"])
    transactions.begin([b"1000"], b"")
    with pytest.raises(ProtocolError) as caught:
        transactions.begin([b"1001"], b"")
    assert caught.value.reason == TOO_MANY_TRANSACTIONS


def test_waiting_changes_are_limited() -> None:
    """Changes over all transactions are limited in number; ended transactions no longer count."""
    transactions = begun()
    transactions.begin([b"2"], b"")
    for number in range(CHANGE_LIMIT):
        transactions.unset([b"%d" % (1 + number % 2), b"k"])
    with pytest.raises(ProtocolError) as caught:
        transactions.unset([b"1", b"k"])
    assert caught.value.reason == TOO_MANY_CHANGES

    transactions = begun()
    for _ in range(3):
        for _ in range(CHANGE_LIMIT):
            transactions.unset([b"1", b"k"])
        transactions.end([b"1"])
        transactions.begin([b"1"], b"")


def test_waiting_bytes_are_limited() -> None:
    """Keys and values that wait are limited in bytes; ended transactions no longer count."""
    transactions = begun()
    half = b"v" * (CHANGE_BYTES_LIMIT // 2)
    transactions.set([b"1", b"", half])
    transactions.end([b"1"])
    transactions.begin([b"1"], b"")
    transactions.set([b"1", b"", half])
    transactions.set([b"1", b"", half])
    with pytest.raises(ProtocolError) as caught:
        transactions.unset([b"1", b"k"])
    assert caught.value.reason == TOO_MANY_CHANGES
