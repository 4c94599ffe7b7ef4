"""Sending clients elsewhere before a node stops: told first, closed in batches."""

import logging
import math
import random
from collections.abc import Awaitable, Callable

from derpnode.plane.contract import ConnectionId, Plane
from derpnode.relay.relay import Client, Relay
from derpnode.wire.payloads import health, restarting


logger = logging.getLogger(__name__)

PACE = 200
"""Clients sent away in a second, if the time allows: each costs a sibling a login."""

STEP = 0.25
"""Seconds between two batches."""

SHARE = 0.8
"""Part of the grace period in which everybody must have been told."""

_TEXT = "this relay is restarting"


async def say_goodbye(
    relay: Relay,
    plane: Plane,
    *,
    grace: float,
    send: Callable[[int, bytes], None],
    sleep: Callable[[float], Awaitable[None]],
) -> None:
    """Tell every client that the node stops, and close it; idle ones first.

    Args:
        relay: Knows the clients.
        plane: Closes them, once what was queued has left.
        grace: Seconds that all of it may take.
        send: Queues control frames to a connection.
        sleep: Waits that long.
    """
    clients = list(relay.clients())
    if not clients:
        return
    steps = max(1, math.ceil(min(grace * SHARE, len(clients) / PACE) / STEP))
    logger.info("stopping: sending %d clients elsewhere", len(clients))
    farewell = health(_TEXT) + restarting(reconnect_in=0.0, try_for=grace)
    for client in clients:
        send(client.connection, farewell)
    clients.sort(key=lambda client: _traffic(plane, client))
    size = math.ceil(len(clients) / steps)
    for start in range(0, len(clients), size):
        for client in clients[start : start + size]:
            plane.close(ConnectionId(client.connection), _TEXT)
        await sleep(STEP * random.uniform(0.5, 1.0))  # noqa: S311 - only jitter


def _traffic(plane: Plane, client: Client) -> int:
    stats = plane.stats(ConnectionId(client.connection))
    return stats.rx_packets + stats.tx_packets
