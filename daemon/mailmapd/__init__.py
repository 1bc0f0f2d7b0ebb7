"""mailmapd: the lookups of Postfix and Dovecot, answered from memory in front of a database.

The words, each for one thing, in the code as in the configuration, the metrics and the documents:

    key            what a client asks for                 SQL key   the part of it that a query depends on
    table          one SQL query with its cache           map       an ordered list of tables, and a search
    search         which partial keys are tried           dict      what Dovecot asks
    row, absence   what a database says of a key          entry     one of them in memory, with its age
    fresh, refresh, stale   the ages of an entry          flight    a question that is on its way
    origin         where a table's answers come from      database  a server group, or a file
    answer         Found, NotFound, TempFail, PermFail    reply     an answer as bytes
    invalidation   what is to be forgotten, as a value    distrust  what was stored before a moment counts from there
    listener       a socket with a protocol               service   what answers for one listener
    feed           one server's log of changes, followed  lease     for how long what is known may be believed
    fence          the moment from which a change is visible to every reader
    get counts as a use, peek does not; what gets an outcome later is called done
"""

__version__ = "0.1.0"
