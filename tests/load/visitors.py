"""Clients that come while a node is under load, as Tailscale's clients would."""

import asyncio
import contextlib
import os
import random
import threading
from collections.abc import Iterator

from derpnode.client import ClientError, ClientTls, connect
from derpnode.wire.keys import KEY_SIZE, PrivateKey
from tests.load.node import Node


LONGEST_PAUSE = 5.0
"""Seconds, before the jitter. Source: magicsock/derp.go, runDerpReader."""

ATTEMPT = 10.0
"""Seconds that a client gives one attempt. Source: derphttp_client.go, connect."""


def pause(failures: int) -> float:
    """Draw the pause after so many failures. Source: util/backoff/backoff.go."""
    jitter = random.uniform(0.5, 1.5)  # noqa: S311 - no secret
    return min(failures**2 * 0.01, LONGEST_PAUSE) * jitter


async def come(node: Node) -> float:
    """Log in, again and again until it succeeds; return the seconds it all took."""
    host, port = node.address.rsplit(":", 1)
    private = PrivateKey.from_seed(os.urandom(KEY_SIZE))
    clock = asyncio.get_running_loop().time
    began = clock()
    failures = 0
    while True:
        try:
            async with connect(
                host,
                int(port),
                private=private,
                tls=ClientTls(node.pin),
                timeout=ATTEMPT,
            ):
                return clock() - began
        except ClientError:
            failures += 1
            await asyncio.sleep(pause(failures))


async def _visit(node: Node, every: float, took: list[float], over: threading.Event):
    async def one() -> None:
        took.append(await come(node))

    async with asyncio.TaskGroup() as group:
        while not over.is_set():
            group.create_task(one())
            await asyncio.sleep(every)


@contextlib.contextmanager
def visitors(node: Node, every: float = 0.25) -> Iterator[list[float]]:
    """Have clients come while the block runs; how long each took is in the list.

    The block ends when all that came are in.
    """
    took: list[float] = []
    over = threading.Event()
    thread = threading.Thread(
        target=asyncio.run, args=[_visit(node, every, took, over)]
    )
    thread.start()
    try:
        yield took
    finally:
        over.set()
        thread.join()


def p99(values: list[float]) -> float:
    """Return what all but one in a hundred stay below."""
    return sorted(values)[-1 - len(values) // 100]
