"""Changes: the database's own log says which rows changed, and exactly the entries that they touch are forgotten.

catalog    what the server says of its tables: columns, views, foreign keys that cascade
layout     how parts of a key, known from a row, make SQL keys
follow     which tables of the engine are followed, by what they read; and why the others are not
selection  an event of the log → what it touches
follower   one server's log: start, events, the proof that it is alive, and its end
audit      answers that are asked anew, as a proof
fence      when a change is visible to every reader
"""
