"""A flood of questions, as fast as they are answered, as a process of its own.

`python -m support.flood PATH MAP CONNECTIONS FIRST LAST`.

Asks for ``user-9<number>@example.com``, whom nobody knows, from FIRST to LAST, shared out among the
connections, each sending many questions at once. Prints how the answers were distributed, such as
``NOTFOUND 1000``, a line for each.
"""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from itertools import islice

BURST = 50  # questions that a connection sends at once


async def ask(path: str, name: str, numbers: range, seen: Counter[str]) -> None:
    """Ask for every number over one connection."""
    reader, writer = await asyncio.open_unix_connection(path)
    remaining = iter(numbers)
    while burst := list(islice(remaining, BURST)):
        requests = [f"{name} user-9{number}@example.com" for number in burst]
        writer.write("".join([f"{len(request)}:{request}," for request in requests]).encode())
        for _ in burst:
            reply = await reader.readuntil(b",")
            seen[reply.partition(b":")[2].partition(b" ")[0].decode()] += 1
    writer.close()


async def main(path: str, name: str, connections: int, first: int, last: int) -> None:
    """Ask for every number from `first` to `last`."""
    seen: Counter[str] = Counter()
    async with asyncio.TaskGroup() as group:
        for number in range(connections):
            group.create_task(ask(path, name, range(first + number, last, connections), seen))
    for status, count in seen.items():
        print(status, count, flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:6])))
