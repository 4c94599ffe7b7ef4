"""A process with a plane and nothing else, so that its memory can be measured.

It prints the address it listens on; then, for each line that it reads, its connections
and its resident memory in KiB. Whoever says something is logged in.
"""

import asyncio
import gc
import itertools
import re
import resource
import sys
from pathlib import Path

from derpnode.plane.contract import (
    AcceptLimits,
    Bytes,
    Flags,
    PlaneLimits,
    RouteKind,
)
from derpnode.wire.keys import NodeKey
from tests.node.plane.certificates import server_tls
from tests.node.plane.planes import PLANES
from tests.node.plane.scene import LOOPBACK, NO_LIMIT


def resident() -> int:
    """Read how much memory this process has, in KiB."""
    gc.collect()
    found = re.search(
        r"^VmRSS:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE
    )
    assert found is not None
    return int(found[1])


async def serve(name: str, *, tls: bool) -> None:
    """Listen until standard input ends."""
    loop = asyncio.get_running_loop()
    numbers = itertools.count()

    def sink(batch) -> None:
        for event in batch:
            if type(event) is Bytes:
                key = NodeKey(next(numbers).to_bytes(32))
                plane.attach(event.id, key, len(event.data), Flags.NONE, NO_LIMIT)
                plane.set_route(key, event.id, RouteKind.CLIENT)

    plane = PLANES[name](sink, PlaneLimits(), loop)
    limits = AcceptLimits(first_byte=120, tls_handshake=120)
    _, address = plane.listen(LOOPBACK, server_tls() if tls else None, limits)
    sys.stdout.write(f"{address.port}\n")
    sys.stdout.flush()
    ended = asyncio.Event()

    def answer() -> None:
        if not sys.stdin.readline():
            ended.set()
            return
        counters = plane.counters
        settled = counters.connections - counters.handshakes
        sys.stdout.write(f"{counters.connections} {settled} {resident()}\n")
        sys.stdout.flush()

    loop.add_reader(sys.stdin, answer)
    await ended.wait()
    loop.remove_reader(sys.stdin)
    plane.shutdown()


if __name__ == "__main__":
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    asyncio.run(serve(sys.argv[1], tls=sys.argv[2] == "tls"))
