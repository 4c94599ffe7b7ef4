"""Watches of a real etcd through gateways that hand them on badly."""

import asyncio
from contextlib import aclosing

import pytest

from derpmesh.etcd.errors import WatchEnded
from tests.mesh.etcd.gateway import Gateway


pytestmark = pytest.mark.interop

LIMIT = 30.0
"""Seconds until a dead watch must be found. Source: fault F6."""


@pytest.mark.parametrize("manner", ["halves", "pairs", "newlines"])
async def test_f6_documents_in_odd_pieces(connect, shared_etcd, prefix, manner):
    """F6: every event comes, once and in order, and the watch goes on."""
    wanted = [b"%d" % number for number in range(10)]
    async with Gateway(shared_etcd.urls[0], manner).running() as gateway:
        client = connect(gateway.url)
        start = await client.put(prefix, b"") + 1
        found: list[bytes] = []
        watch = client.watch(prefix, start)
        async with asyncio.timeout(LIMIT), aclosing(watch) as batches:
            await anext(batches)
            for value in wanted:
                await client.put(prefix, value)
            while len(found) < len(wanted):
                found += [event.value for event in (await anext(batches)).events]
        await client.close()
    assert found == wanted
    assert gateway.begun == 1


async def test_f6_cancelled_and_left_open(connect, shared_etcd, prefix):
    """F6: the message is the end, and the next watch has what came meanwhile."""
    async with Gateway(shared_etcd.urls[0]).running() as gateway:
        client = connect(gateway.url)
        start = await client.put(prefix, b"") + 1
        async with aclosing(client.watch(prefix, start)) as batches:
            last = (await anext(batches)).revision
            await gateway.cancel()
            with pytest.raises(WatchEnded, match="cancelled: tired"):
                async with asyncio.timeout(LIMIT):
                    await anext(batches)
        await client.put(prefix, b"missed")
        async with aclosing(client.watch(prefix, last + 1)) as batches:
            await anext(batches)
            [event] = (await anext(batches)).events
        assert event.value == b"missed"
        await client.close()
