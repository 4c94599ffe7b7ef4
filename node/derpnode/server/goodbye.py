"""Sending clients elsewhere: told first, then closed in batches, idle ones first."""

import logging
import math
import random
from collections.abc import Awaitable, Callable

from derpnode.plane.contract import ConnectionId, Plane
from derpnode.relay.relay import Client, Relay
from derpnode.wire.payloads import health, restarting


logger = logging.getLogger(__name__)

PACE = 200
"""Clients sent away in a second for each sibling: it costs that one a login."""

STEP = 0.25
"""Seconds between two batches."""

SHARE = 0.8
"""Part of the grace period in which everybody must have been told."""


async def say_goodbye(  # noqa: PLR0913 - what it needs of the node
    relay: Relay,
    plane: Plane,
    *,
    text: str,
    grace: float,
    siblings: int,
    send: Callable[[int, bytes], None],
    sleep: Callable[[float], Awaitable[None]],
) -> None:
    """Tell every client that the node stops taking it, and close it.

    Connections with the mesh right stay: packets in flight still need their way.

    Args:
        relay: Knows the clients.
        plane: Closes them, once what was queued has left.
        text: What their users are shown.
        grace: Seconds that all of it may take.
        siblings: Nodes that take the clients.
        send: Queues control frames to a connection.
        sleep: Waits that long.
    """
    farewell = health(text) + restarting(reconnect_in=0.0, try_for=grace)
    told: set[int] = set()
    left = grace * SHARE
    # More than once: some may log in while others leave.
    while clients := [
        client
        for client in relay.clients()
        if not client.mesh and client.connection not in told
    ]:
        logger.info("sending %d clients elsewhere", len(clients))
        for client in clients:
            told.add(client.connection)
            send(client.connection, farewell)
        clients.sort(key=lambda client: _traffic(plane, client))
        pace = PACE * max(1, siblings)
        steps = max(1, math.ceil(min(left, len(clients) / pace) / STEP))
        left = max(0.0, left - steps * STEP)
        size = math.ceil(len(clients) / steps)
        for start in range(0, len(clients), size):
            for client in clients[start : start + size]:
                plane.close(ConnectionId(client.connection), text)
            await sleep(STEP * random.uniform(0.5, 1.0))  # noqa: S311 - only jitter


def _traffic(plane: Plane, client: Client) -> int:
    stats = plane.stats(ConnectionId(client.connection))
    return stats.rx_packets + stats.tx_packets
