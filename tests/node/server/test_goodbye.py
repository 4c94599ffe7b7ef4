"""Telling clients to go elsewhere: in which order, and how fast."""

import math
from collections.abc import Awaitable, Callable

import pytest

from derpnode.plane.contract import ConnectionId, Stats
from derpnode.relay.relay import Client
from derpnode.server.goodbye import PACE, SHARE, STEP, say_goodbye
from derpnode.wire.frames import FrameType
from derpnode.wire.keys import NodeKey
from derpnode.wire.payloads import parse_health, parse_restarting
from tests.node.server.desk import Desk, frames


Sleep = Callable[[float], Awaitable[None]]


class Crowd:
    """Clients of a desk, and what happens when they are sent away."""

    def __init__(self, count: int) -> None:
        self.desk = Desk()
        self.slept: list[float] = []
        self.gone_by: list[int] = []
        """How many were closed at each sleep."""

        for number in range(1, count + 1):
            self.come(number)

    def come(self, number: int, *, mesh: bool = False) -> None:
        """Log a client in."""
        key = NodeKey(number.to_bytes(32))
        self.desk.relay.register(Client(connection=number, key=key, mesh=mesh))

    async def leave(
        self, grace: float = 20.0, siblings: int = 0, sleep: Sleep | None = None
    ) -> list[int]:
        """Send everybody away; return who was closed, in order."""
        await say_goodbye(
            self.desk.relay,
            self.desk.plane,  # type: ignore[arg-type]
            text="so long",
            grace=grace,
            siblings=siblings,
            send=self.desk.switchboard.send,
            sleep=sleep or self._sleep,
        )
        return list(self.desk.plane.closed)

    async def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.gone_by.append(len(self.desk.plane.closed))


async def test_nobody():
    """Nothing is waited for."""
    crowd = Crowd(0)
    assert await crowd.leave() == []
    assert crowd.slept == []


async def test_what_is_said():
    """Health and Restarting, to each, and then the end after what was queued."""
    crowd = Crowd(2)
    assert await crowd.leave(grace=7) == [1, 2]
    for number in (1, 2):
        (first, health), (second, restarting) = frames(crowd.desk.hear(number))
        assert (first, second) == (FrameType.HEALTH, FrameType.RESTARTING)
        assert parse_health(health) == "so long"
        assert parse_restarting(restarting) == (0, 7)
        assert crowd.desk.plane.closed[number] == ("so long", False)


async def test_idle_ones_first():
    """By packets, in and out."""
    crowd = Crowd(4)
    for number, packets in ((1, 9), (2, 0), (3, 5), (4, 1)):
        stats = Stats(rx_packets=packets // 2, tx_packets=packets - packets // 2)
        crowd.desk.plane.traffic[ConnectionId(number)] = stats
    assert await crowd.leave() == [2, 4, 3, 1]


async def test_mesh_peers_stay():
    """Packets that are under way still need their way."""
    crowd = Crowd(1)
    crowd.come(2, mesh=True)
    assert await crowd.leave() == [1]
    assert crowd.desk.hear(2) == b""


@pytest.mark.parametrize("siblings", [0, 1, 4])
async def test_the_pace(siblings):
    """So many a second for each sibling, and none at once."""
    crowd = Crowd(1000)
    await crowd.leave(grace=3600, siblings=siblings)
    steps = math.ceil(1000 / (PACE * max(1, siblings)) / STEP)
    assert len(crowd.slept) == steps
    assert crowd.gone_by[0] == math.ceil(1000 / steps)
    assert all(STEP / 2 <= seconds <= STEP for seconds in crowd.slept)


@pytest.mark.parametrize("grace", [0.0, 1.0, 4.0])
async def test_the_grace_period(grace):
    """Everybody has been told in four fifths of it, however many they are."""
    crowd = Crowd(3000)
    closed = await crowd.leave(grace=grace)
    assert len(closed) == 3000
    assert sum(crowd.slept) <= max(grace * SHARE, STEP) + STEP


async def test_those_who_come_meanwhile():
    """They are told as well: they had connected before the listener closed."""
    crowd = Crowd(2)

    async def sleep(seconds: float) -> None:
        if len(crowd.slept) < 3:
            crowd.come(10 + len(crowd.slept))
        crowd.slept.append(seconds)

    assert await crowd.leave(sleep=sleep) == [1, 2, 10, 11, 12]


async def test_those_who_leave_meanwhile():
    """Closing them again does nothing."""
    crowd = Crowd(3)

    async def sleep(seconds: float) -> None:
        for client in list(crowd.desk.relay.clients()):
            crowd.desk.leave(client.connection)

    await crowd.leave(sleep=sleep)
    assert not list(crowd.desk.relay.clients())
