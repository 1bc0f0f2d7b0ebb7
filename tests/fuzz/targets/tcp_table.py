"""Any bytes to a tcp_table listener: queries or one ProtocolError, the same for any cut.

Any key as a value fits a reply.
"""

from __future__ import annotations

from mailmapd.model import Found, MapQuery
from mailmapd.protocols import TcpTableCodec
from mailmapd.protocols.tcp_table import REASONS, REPLY_LIMIT
from support.codecs import outcome_of_any_cut

SEEDS = (
    b"get user@example.com\n",
    b"get a%20b%25\nput k v\nget \n",
    b"get %zz\n",
    b"get %C3%A9\r\n",
    b"24:mailbox user@example.com,",
)
TOKENS = (b"get ", b"put ", b"%20", b"%00", b"%ff", b"%", b"\n", b"\r\n")


def check(data: bytes) -> None:
    outcome = outcome_of_any_cut(TcpTableCodec, data, REASONS)
    codec = TcpTableCodec()
    whole = codec.whole_query(data)
    assert whole is None or outcome.queries == [whole]
    for query in outcome.queries:
        assert isinstance(query, MapQuery)
        reply = codec.encode(Found(query.key))
        assert len(reply) <= REPLY_LIMIT
        assert reply.index(b"\n") == len(reply) - 1
