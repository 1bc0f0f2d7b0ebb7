"""The wire protocols of Postfix and Dovecot as pure codecs: bytes in, queries out; answers in, bytes out.

Nothing here knows a socket, an event loop, a clock or a logger.
"""

from __future__ import annotations

from mailmapd.protocols.codec import Codec, MapCodec
from mailmapd.protocols.dovecot_dict import DictCodec
from mailmapd.protocols.socketmap import SocketmapCodec
from mailmapd.protocols.tcp_table import TcpTableCodec

__all__ = ["Codec", "DictCodec", "MapCodec", "SocketmapCodec", "TcpTableCodec"]
