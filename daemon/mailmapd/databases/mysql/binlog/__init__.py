"""The binary log as a stream: what a replica would be sent, read as a pure codec (no socket, no loop, no clock).

A server that has been sent COM_BINLOG_DUMP answers with packets without end, one event each::

    packet   length(3) sequence(1) 00 event        or ff code(2) '#' state(5) text, or fe: the end of the stream
    event    when(4) type(1) server(4) size(4) end position(4) flags(2) body [checksum(4)]

A transaction is a GTID event, then for each statement table maps (number → schema, table, column types) and row events
that speak of those numbers, then XID or a COMMIT statement. What a DDL did stands in a query event as text.

`reader` turns bytes into the values of `events`; `bodies` and `packing` know how these are written and compressed,
`rows` and `columns` the layout of row images; `commands` has what is sent to start a stream. See MySQL's "Replication
Protocol" and MariaDB's "Replication Protocol" manuals.

The libraries that read this skip compressed events without a word (``log_bin_compress`` of MariaDB,
``binlog_transaction_compression`` of MySQL), and decode values that nobody asked for, ten times slower. Here nothing is
passed over in silence: what cannot be understood is an event of its own that says so.
"""
