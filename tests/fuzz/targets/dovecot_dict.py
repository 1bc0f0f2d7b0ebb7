"""Any bytes to a dict listener: queries or one ProtocolError, the same for any cut.

Every query can be answered in whole lines.
"""

from __future__ import annotations

from contextlib import suppress

from mailmapd.errors import ProtocolError
from mailmapd.model import DictIterate, DictLookup, Found, MapQuery, TempFail
from mailmapd.protocols import DictCodec
from mailmapd.protocols.dovecot_dict import REASONS
from mailmapd.protocols.tab_escape import escape, unescape
from support.codecs import outcome_of_any_cut

SEEDS = (
    b"H3\t2\t0\t\tauth\nLshared/passdb/anna\tanna\nI0\t0\tshared/userdb/\t*\n",
    b"H2\t2\t0\tanna\tquota\nLpriv/quota/storage\nI9\t10\tpriv/\n",
    b"H4\t0\t0\t\tquota\nB1\tanna\t0\nV1\tyes\nT1\t1\t2\nS1\tpriv/a\x01tb\t1\x01n\nU1\tpriv/b\nA1\tpriv/c\t-3\nC1\n",
    b"H3\t2\t0\t\tauth\nB1\nB2\tu\nR1\nD2\nC2\n",
    b"H9\t0\t0\t\tauth\n",
    b"Lk\n",
    b"H3\t2\t0\t\tauth\nLshared/userdb/anna\tanna\n",
)
TOKENS = (
    b"H3\t2\t0\t\tauth\n",
    b"\t",
    b"\n",
    b"\x01",
    b"\x01t",
    b"\x010",
    b"B1\n",
    b"C1\n",
    b"D1\n",
    b"R1\n",
    b"4294967296",
    b"-1",
)


def check(data: bytes) -> None:
    outcome = outcome_of_any_cut(DictCodec, data, REASONS)
    codec = DictCodec()
    hello, end, rest = data.partition(b"\n")
    codec.receive_data(hello + end)
    with suppress(ProtocolError):
        codec.next_query()
    whole = codec.whole_query(rest)
    assert whole is None or outcome.queries == [whole]
    for query in outcome.queries:
        assert not isinstance(query, MapQuery)
        value = data
        if isinstance(query, DictIterate):
            assert (
                codec.encode_rows(query, [(query.prefix + query.mask, query.mask)]).count(b"\n")
                == 1
            )
        if isinstance(query, DictLookup):
            value = query.key
        assert unescape(escape(value)) == value
        for answer in (Found(value), TempFail(value.decode("latin-1"))):
            reply = codec.encode(query, answer)
            assert reply.index(b"\n") == len(reply) - 1
