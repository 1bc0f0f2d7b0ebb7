"""The fleet.

Hosts tell each other by one stream in a Valkey or Redis server what is to be forgotten.

server      what is asked of the server, by way of redis-py
connections at a path, at each address of a name, or where Sentinels say that it is
replies     what it answers, of which no more is kept than there can be
message     what is said, as bytes
reader      reads the stream, and proves that nothing of it was missed
publisher   says what this host's feeds hear, and that they hear
coverage    for how long whose word holds
watching    which tables are kept for long because of it
standing    where this host stood when its memory was written down
own_word    what this host's feeds can vouch for
members     how each host is, and how far it has read
roll        who is expected, whatever becomes of the records
reports     this host's record, and what is read from those of the others
beliefs     what may be believed that others have asked, or this host before it was away
part        what a bus serves, and what its tables are called in the fleet
bus         all of it, for one engine

Where they share answers, too:

second_level    answers that hosts share, and what makes the server forget them
shared_origin   asks there before a table asks its database
shared_answer   an answer with what others must know to believe it, as bytes
sealing         which only who has the secret can read or make
exchange        many questions at a time, with a deadline and a breaker
scripts         what the server does at one moment
"""
