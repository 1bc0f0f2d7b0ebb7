"""Changes: the database's own log says which rows changed, and exactly the entries that they touch are forgotten.

following      the databases of an engine: what their feeds say, and what that means for the tables
feed           one server's log, followed for as long as that is proven
followed_host  the server that is asked, and whose log says what it shows
source         the server that a replica without a log replicates from
beginning      where a stream begins
progress       how far it has been heard, and what proves later that it is the same
commits        how many commits of a MariaDB were heard, and which of them are visible
hearing        its events, one after the other
selection      an event → what it touches
touched        what is touched: keys, parts of keys, tables
fence          what is pending until it is visible to every reader, and then forgotten for the last time
settlement     the moment from which all that was heard until now is forgotten for the last time
reverse        rows → the keys that they matter to, asked of the server
forgetting     what was touched → the engine's tables
refetching     what was forgotten and is asked for again
kept_catalog   who reads what, from DDL to DDL
catalog        what the server says of its tables: columns, views, foreign keys that cascade
readers        which tables of the engine are followed, by what they read; and why the others are not
layout         how parts of a key, known from a row, make SQL keys
file_feed      the same of a file of SQLite, of which only is known that something changed
lease          how long is kept what is followed
audit          answers that are asked anew, as a proof
backoff        pauses between two beginnings
told           who is told what a feed hears
"""
