"""The open transactions of one dict connection, from BEGIN to COMMIT or ROLLBACK.

    B<id>[ TAB <user>[ TAB <expire seconds>]]    begin
    S<id> TAB <key> TAB <value>                  set
    U<id> TAB <key>                              unset
    A<id> TAB <key> TAB <difference>             atomic increment
    T<id> TAB <seconds> TAB <nanoseconds>        time of the write
    V<id> TAB yes|no                             hide values in logs
    R<id>                                        roll back

All of this is checked, and nothing of it kept but the ids of open transactions: a commit is
refused, whatever it would change. None of these has a reply. The client chooses the ids; they are
its own, and a reconnect does not reset them.
"""

from __future__ import annotations

from typing import Final

from mailmapd.errors import ProtocolError
from mailmapd.protocols.dovecot_dict_numbers import UINT32_MAX, is_int64, parse_unsigned

TRANSACTION_LIMIT: Final = 100
"""Open transactions on one connection.

Dovecot opens one for each user whose session ends in the process, hence a handful.
"""

BAD_ARGUMENTS: Final = "bad_arguments"
BAD_TRANSACTION: Final = "bad_transaction"
TOO_MANY_TRANSACTIONS: Final = "too_many_transactions"
REASONS: Final = (BAD_ARGUMENTS, BAD_TRANSACTION, TOO_MANY_TRANSACTIONS)


class Transactions:
    """The transactions that one connection has begun and not yet ended.

    Every method raises `ProtocolError` for arguments that make no sense.
    """

    __slots__ = ("_open",)

    def __init__(self) -> None:
        self._open: set[int] = set()

    def begin(self, arguments: list[bytes]) -> None:
        """Open a transaction (``B``)."""
        transaction_id = _parse_id(arguments[0])
        if transaction_id in self._open:
            raise ProtocolError(BAD_TRANSACTION, "a transaction begins that is already open")
        if len(self._open) >= TRANSACTION_LIMIT:
            raise ProtocolError(
                TOO_MANY_TRANSACTIONS, f"more than {TRANSACTION_LIMIT} transactions are open"
            )
        if len(arguments) > 2 and parse_unsigned(arguments[2], UINT32_MAX) is None:
            raise _bad_arguments("BEGIN")
        self._open.add(transaction_id)

    def set(self, arguments: list[bytes]) -> None:
        """Check that a key gets a value (``S``)."""
        if len(arguments) != 3:
            raise _bad_arguments("SET")
        self._find(arguments[0])

    def unset(self, arguments: list[bytes]) -> None:
        """Check that a key loses its value (``U``)."""
        if len(arguments) != 2:
            raise _bad_arguments("UNSET")
        self._find(arguments[0])

    def increment(self, arguments: list[bytes]) -> None:
        """Check that a key's number changes by a difference (``A``)."""
        if len(arguments) != 3 or not is_int64(arguments[2]):
            raise _bad_arguments("ATOMIC_INC")
        self._find(arguments[0])

    def set_timestamp(self, arguments: list[bytes]) -> None:
        """Check a time of writing (``T``)."""
        if (
            len(arguments) != 3
            or not is_int64(arguments[1])
            or parse_unsigned(arguments[2], UINT32_MAX) is None
        ):
            raise _bad_arguments("TIMESTAMP")
        self._find(arguments[0])

    def hide_values(self, arguments: list[bytes]) -> None:
        """Check a wish to keep values out of logs (``V``)."""
        if len(arguments) != 2:
            raise _bad_arguments("HIDE_LOG_VALUES")
        self._find(arguments[0])

    def end(self, arguments: list[bytes]) -> int:
        """Forget a transaction, to be committed or rolled back (``C``, ``D``, ``R``), and return its id."""
        if len(arguments) != 1:
            raise _bad_arguments("COMMIT or ROLLBACK")
        transaction_id = self._find(arguments[0])
        self._open.discard(transaction_id)
        return transaction_id

    def _find(self, argument: bytes) -> int:
        transaction_id = _parse_id(argument)
        if transaction_id not in self._open:
            raise ProtocolError(BAD_TRANSACTION, "a command names a transaction that is not open")
        return transaction_id


def _parse_id(argument: bytes) -> int:
    transaction_id = parse_unsigned(argument, UINT32_MAX)
    if transaction_id is None:
        raise ProtocolError(BAD_TRANSACTION, "a transaction id is not a number")
    return transaction_id


def _bad_arguments(command: str) -> ProtocolError:
    return ProtocolError(BAD_ARGUMENTS, f"the arguments of {command} are not those of the protocol")
