"""Any bytes to a socketmap listener: queries or one ProtocolError, the same for any cut.

Any key as a value can be answered.
"""

from __future__ import annotations

from mailmapd.model import Found, MapQuery, TempFail
from mailmapd.protocols import SocketmapCodec
from mailmapd.protocols.socketmap import REASONS
from support.codecs import outcome_of_any_cut

SEEDS = (
    b"24:mailbox user@example.com,",
    b"3:m k,5:m a b,2:m ,",
    b"1200:m " + b"k" * 1198 + b",",
    b"10257:",
    b"get user@example.com\n",
)
TOKENS = (b"0:", b"3:", b"10:", b"100:", b"1000:", b"10256:", b"m ", b" ", b",", b":")


def check(data: bytes) -> None:
    outcome = outcome_of_any_cut(SocketmapCodec, data, REASONS)
    codec = SocketmapCodec()
    whole = codec.whole_query(data)
    assert whole is None or outcome.queries == [whole]
    for query in outcome.queries:
        assert isinstance(query, MapQuery)
        assert codec.encode(Found(query.key)).endswith(b",")
        assert codec.encode(TempFail(query.map.decode("latin-1"))).endswith(b",")
