"""A flood of requests from one address, in a process of its own: python -m tests.support.flood."""

import asyncio
import json
import sys
import time
from collections import Counter


async def flood(port: int, request: bytes, connections: int, seconds: float) -> Counter[str]:
    """Send the request on many connections, as fast as they are answered, and count the answers."""
    statuses: Counter[str] = Counter()
    end = time.monotonic() + seconds

    async def one_after_another() -> None:
        while time.monotonic() < end:
            try:
                reader, writer = await asyncio.open_connection(
                    "127.0.0.1", port, local_addr=("127.0.0.2", 0)
                )
            except OSError:
                await asyncio.sleep(0.01)
                continue
            try:
                while time.monotonic() < end:
                    writer.write(request)
                    head = await reader.readuntil(b"\r\n\r\n")
                    statuses[head.split(b" ", 2)[1].decode()] += 1
                    length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
                    await reader.readexactly(int(length or 0))
            except (OSError, asyncio.IncompleteReadError):
                pass
            finally:
                writer.close()

    await asyncio.gather(*(one_after_another() for _ in range(connections)))
    return statuses


if __name__ == "__main__":
    port, connections, seconds = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    counted = asyncio.run(flood(port, sys.stdin.buffer.read(), connections, seconds))
    print(json.dumps(counted))
