from __future__ import annotations

import tracemalloc
from collections.abc import Callable

import pytest

from mailmapd.errors import ProtocolError
from mailmapd.protocols.dovecot_dict_transactions import (
    BAD_ARGUMENTS,
    BAD_TRANSACTION,
    REASONS,
    TOO_MANY_TRANSACTIONS,
    TRANSACTION_LIMIT,
    Transactions,
)


def begun() -> Transactions:
    transactions = Transactions()
    transactions.begin([b"1", b"anna"])
    return transactions


def test_transactions_end_once() -> None:
    """A transaction ends once, by its number, after changes of every kind: 01 is 1."""
    transactions = begun()
    transactions.begin([b"2"])
    transactions.set([b"1", b"key", b"value"])
    transactions.unset([b"01", b"key"])
    transactions.increment([b"1", b"count", b"-3"])
    transactions.set_timestamp([b"1", b"-5", b"999999999"])
    transactions.hide_values([b"1", b"yes"])
    assert transactions.end([b"2"]) == 2
    assert transactions.end([b"01"]) == 1
    with pytest.raises(ProtocolError):
        transactions.end([b"1"])


def test_nothing_is_kept() -> None:
    """Changes and users of open transactions cost no memory, however many and long they are."""
    transactions = Transactions()
    tracemalloc.start()
    try:
        for number in range(TRANSACTION_LIMIT):
            transactions.begin([b"%d" % number, b"u" * 60_000])
            for _ in range(100):
                transactions.set([b"%d" % number, b"k" * 30_000, b"v" * 30_000])
        assert tracemalloc.get_traced_memory()[0] < 50_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (lambda open_: open_.begin([b"1", b"u"]), BAD_TRANSACTION),
        (lambda open_: open_.begin([b"x"]), BAD_TRANSACTION),
        (lambda open_: open_.begin([b""]), BAD_TRANSACTION),
        (lambda open_: open_.begin([b"-1"]), BAD_TRANSACTION),
        (lambda open_: open_.begin([b"4294967296"]), BAD_TRANSACTION),
        (lambda open_: open_.begin([b"2", b"u", b"soon"]), BAD_ARGUMENTS),
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


def test_open_transactions_are_limited() -> None:
    """A client cannot open transactions without end, but as many as it likes one after the other."""
    transactions = Transactions()
    for number in range(TRANSACTION_LIMIT):
        transactions.begin([b"%d" % number])
    transactions.end([b"0"])
    transactions.begin([b"1000"])
    with pytest.raises(ProtocolError) as caught:
        transactions.begin([b"1001"])
    assert caught.value.reason == TOO_MANY_TRANSACTIONS
