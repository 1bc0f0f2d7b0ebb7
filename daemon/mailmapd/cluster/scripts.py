"""Scripts that the server carries out at one moment: asking for shared answers, and sharing them.

Every answer has two keys: its value, and its guard, which is a token while somebody fetches the answer, and a tombstone
for some seconds after it was touched. Marks are random texts that an answer was made under; who touches a whole table
removes its mark. One that is not there is made anew, and fits no answer from before.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Script:
    """A script, and the digest by which the server knows it once it has seen it."""

    text: str
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        digest = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()
        object.__setattr__(self, "digest", digest)


ELSEWHERE = "ELSEWHERE"
"""Begins the refusal of a server that is not the one that was meant."""

_WHERE_MEANT = f"""
local of = redis.call('INFO', 'replication')
if string.match(of, 'role:(%a+)') ~= 'master' then
  return redis.error_reply('READONLY a replica is not asked, because it may be behind')
end
if ARGV[1] ~= '' and ARGV[1] ~= string.match(of, 'master_replid:(%x+)') then
  return redis.error_reply('{ELSEWHERE} another history')
end
"""
"""Begins each script. Its first argument is whose history the server must have, or nothing.

A replica may have an answer that the primary has removed already, and lack the tombstone.
"""

GIVEN, REFUSED = b"+", b"-"
"""Words for a value that is not there: whoever asked has the token now, or has not."""

ASK = Script(
    _WHERE_MEANT
    + """
local marks, longest = tonumber(ARGV[2]), tonumber(ARGV[3])
local token, fetching, made = ARGV[4], ARGV[5], ARGV[6]
local said = {}
for i = 1, marks do
  local mark = redis.pcall('GETRANGE', KEYS[i], 0, 63)
  if type(mark) ~= 'string' or mark == '' then
    mark = made .. i
    local written = redis.pcall('SET', KEYS[i], mark)
    if written.err then mark = '' end
  end
  said[#said + 1] = mark
end
for i = marks + 1, #KEYS, 2 do
  local value = redis.pcall('GETRANGE', KEYS[i], 0, longest)
  if type(value) ~= 'string' then
    value = 'another type'
  elseif value == '' and KEYS[i + 1] == KEYS[i] then
    value = '-'
  elseif value == '' then
    local given = redis.pcall('SET', KEYS[i + 1], token, 'NX', 'PX', fetching)
    value = type(given) == 'table' and given.ok and '+' or '-'
  end
  said[#said + 1] = value
end
return said
"""
)
"""Keys: marks, then a value and its guard for each answer; the value twice, where no token is wanted.

Arguments, behind the history: the number of marks, the most bytes of a value, a token and its milliseconds, a new
mark. Returns the marks, then for each answer its value, "+" or "-".
"""

TOUCH = Script(
    """
for i = 1, #KEYS, 2 do
  redis.call('UNLINK', KEYS[i], KEYS[i + 1])
  redis.pcall('SET', KEYS[i + 1], 'touched', 'PX', ARGV[1])
end
"""
)
"""Keys: a value and its guard for each answer that was touched. Argument: for how many milliseconds a tombstone stands.

A full server has no room for it; the answer and every token are gone all the same.
"""

FILL = Script(
    _WHERE_MEANT
    + """
local filled = 0
for i = 1, #KEYS, 2 do
  local first = (i - 1) / 2 * 3 + 2
  if redis.pcall('GET', KEYS[i + 1]) == ARGV[first] then
    redis.call('SET', KEYS[i], ARGV[first + 1], 'PX', ARGV[first + 2])
    redis.call('UNLINK', KEYS[i + 1])
    filled = filled + 1
  end
end
return filled
"""
)
"""Keys: a value and its guard for each answer. Arguments for each, behind the history: the token that must still stand
there, the new value, its milliseconds. Returns how many were written.
"""
