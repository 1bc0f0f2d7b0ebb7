"""The fleet.

Hosts tell each other by one stream in a Valkey or Redis server what is to be forgotten.

server      what is asked of the server, by way of redis-py
replies     what it answers, of which no more is kept than there can be
message     what is said, as bytes
reader      reads the stream, and proves that nothing of it was missed
publisher   says what this host's feeds hear, and that they hear
coverage    for how long whose word holds
watching    which tables are kept for long because of it
members     who is there, and how far each has read
bus         all of it, for one engine
"""
