"""F1: a day without etcd, with waits that take no time; then it is back."""

import asyncio
import gc
import logging
import tracemalloc
from contextlib import aclosing
from datetime import UTC, datetime

import pytest

from derpmesh.etcd.client import Etcd, Patience
from derpmesh.link.backoff import delays
from derpmesh.membership.enrol import Enrolment
from derpmesh.membership.etcd import EtcdRegistry
from derpmesh.membership.keys import Keys
from derpmesh.membership.model import Membership
from derpmesh.membership.records import LiveMember, RegionIntent
from derpmesh.membership.watcher import memberships
from derpnode.server.journal import Journal
from tests.load.scale import LIMIT, sized
from tests.mesh.membership.scene import REGION, A, content
from tests.mesh.region import until
from tests.mesh.stewards import running_etcd
from tests.support.etcd import stored


pytestmark = [pytest.mark.interop, pytest.mark.timeout(LIMIT)]

DAY = sized(86_400.0, 8_640.0)
"""Seconds that etcd is away, by the clock of those who wait for it."""

GROWTH = 300_000
"""Bytes that may be allocated more at the end of the day than in its middle."""

MOST_LINES = 10
"""Lines of the log that a day without etcd may cost."""


class Waits:
    """Waits that take no time, and how long they would have taken."""

    def __init__(self) -> None:
        self.total = 0.0

    async def __call__(self, seconds: float) -> None:
        """Wait."""
        self.total += seconds
        await asyncio.sleep(0)


def live(epoch: int) -> LiveMember:
    """What the node says of itself."""
    return LiveMember(
        name=A.name,
        server_key="nodekey:a",
        instance="one",
        epoch=epoch,
        version="1",
        state="serving",
    )


class Node:
    """What of a node speaks to etcd, as it goes on for a day.

    Args:
        url: Of etcd.
        keys: Of the region.
    """

    def __init__(self, url: str, keys: Keys) -> None:
        self.client = Etcd([url], patience=Patience(attempt=1.0, deadline=0.0))
        self.reading, self.enrolling = Waits(), Waits()
        self.is_away = False
        self.seen: list[Membership] = []
        self._registry = EtcdRegistry(self.client, keys, REGION)
        self._enrolment = Enrolment(
            self.client,
            keys,
            RegionIntent(**REGION.model_dump()),
            entry=lambda: A,
            about=live,
            ttl=5,
            backoff=delays,
            journal=Journal(lambda: datetime.now(UTC)),
            sleep=self._pause,
        )

    async def run(self) -> None:
        """Go on until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow())
            group.create_task(self._enrolment.run())

    @property
    def waited(self) -> float:
        """Seconds that it would have waited by now."""
        return min(self.reading.total, self.enrolling.total)

    async def _follow(self) -> None:
        stream = memberships(self._registry, backoff=delays, sleep=self.reading)
        async with aclosing(stream) as values:
            async for value in values:
                self.seen.append(value)

    async def _pause(self, seconds: float) -> None:
        """Wait in earnest while etcd is there: a lease lives by the real clock."""
        if self.is_away:
            await self.enrolling(seconds)
        else:
            await asyncio.sleep(seconds)


async def grown(node: Node) -> int:
    """Wait until the day is over; give the bytes that its second half cost."""
    await until(lambda: node.waited > DAY / 10, within=LIMIT)
    tracemalloc.start()
    try:
        await until(lambda: node.waited > DAY / 2, within=LIMIT)
        before = allocated()
        await until(lambda: node.waited > DAY, within=LIMIT)
        return allocated() - before
    finally:
        tracemalloc.stop()


def allocated() -> int:
    """Give the bytes that are in use, garbage left out."""
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


async def test_a_day_without_etcd(tmp_path, keys, caplog):
    """Nobody forgets anything, grows, or fills the log; then all is as it was."""
    caplog.set_level(logging.INFO)
    key = keys.of("members", A.name)
    with running_etcd(tmp_path) as server:
        node = Node(server.url, keys)
        async with asyncio.TaskGroup() as group:
            job = group.create_task(node.run())
            await until(lambda: node.seen and content(node.seen[-1]) == (REGION, [A]))
            await until(lambda: stored(server.url, key) is not None)
            before, said = len(node.seen), len(caplog.records)
            node.is_away = True
            server.kill()
            more = await grown(node)
            assert more < GROWTH
            assert len(node.seen) == before
            assert len(caplog.records) - said < MOST_LINES
            node.is_away = False
            server.launch({server.name: server.peer_url})
            await asyncio.to_thread(server.until_ready)
            await until(lambda: is_recorded_again(server.url, key), within=40.0)
            assert content(node.seen[-1]) == (REGION, [A])
            job.cancel()
        await node.client.close()


def is_recorded_again(url: str, key: bytes) -> bool:
    """Whether the node has a record of its own with a lease that it took since."""
    found = stored(url, key)
    return found is not None and LiveMember.read(key, found.value).epoch > 1
