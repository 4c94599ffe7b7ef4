"""Watches of a real etcd: nothing is missed, and every end is noticed."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest

from derpmesh.etcd.answers import Delete, Put
from derpmesh.etcd.client import Etcd
from derpmesh.etcd.errors import Compacted, EtcdError, WatchEnded
from tests.support.etcd import compact
from tests.support.proxy import Proxy


pytestmark = pytest.mark.interop


@pytest.fixture(autouse=True)
async def in_time() -> AsyncIterator[None]:
    """End what waits for an event that does not come."""
    async with asyncio.timeout(45):
        yield


async def events_of(client: Etcd, prefix: bytes, start: int, count: int) -> list:
    """Take so many events, resuming the watch whenever it ends."""
    found: list = []
    while True:
        try:
            async with aclosing(client.watch(prefix, start)) as batches:
                async for batch in batches:
                    found += batch.events
                    start = batch.revision + 1
                    if len(found) >= count:
                        return found
        except EtcdError:
            await asyncio.sleep(0.01)


async def test_history_and_what_comes(etcd: Etcd, prefix):
    """In order, with what was stored and the lease of it."""
    lease = await etcd.lease_grant(60)
    first = await etcd.put(prefix + b"a", b"1")
    async with aclosing(etcd.watch(prefix, first)) as batches:
        begun = await anext(batches)
        assert (begun.revision, begun.events) == (first - 1, ())
        assert (await anext(batches)).events == (
            Put(prefix + b"a", b"1", first, first, 0),
        )
        second = await etcd.put(prefix + b"a", b"2", lease.id)
        await etcd.put(prefix[:-1] + b"0", b"beside")
        assert (await anext(batches)).events == (
            Put(prefix + b"a", b"2", second, first, lease.id),
        )
        await etcd.lease_revoke(lease.id)
        assert (await anext(batches)).events == (Delete(prefix + b"a", second + 2),)


async def test_many_writers(connect, shared_etcd, prefix):
    """Every event once, in the order of revisions."""
    client = connect(shared_etcd.urls)
    start = (await client.range_prefix(prefix)).revision + 1

    async def write(name: int) -> None:
        for number in range(50):
            await client.put(prefix + b"%d" % name, b"%d" % number)

    watching = asyncio.gather(events_of(client, prefix, start, 400))
    await asyncio.gather(*map(write, range(8)))
    [found] = await watching
    revisions = [event.mod_revision for event in found]
    assert len(found) == 400
    assert revisions == sorted(set(revisions))


async def test_connection_is_cut_again_and_again(connect, shared_etcd, prefix):
    """No event is missed and none comes twice, in whatever place it breaks off."""
    writer = connect(shared_etcd.urls)
    start = (await writer.range_prefix(prefix)).revision + 1
    async with Proxy(shared_etcd.servers[0].port) as proxy:
        proxy.piece = 100
        client = connect(proxy.url)
        watching = asyncio.gather(events_of(client, prefix, start, 200))
        for number in range(200):
            await writer.put(prefix + b"k", b"%d" % number)
            if number % 20 == 10:
                proxy.cut()
        [found] = await watching
        await client.close()
    assert [event.value for event in found] == [b"%d" % n for n in range(200)]


async def test_history_is_compacted(start, connect):
    """It says from where on there is one; the stream would stay open and silent."""
    server = start()
    client = connect(server.urls)
    for number in range(5):
        last = await client.put(b"a", b"%d" % number)
    compact(server.urls[0], last)
    with pytest.raises(Compacted) as caught:
        await events_of_once(client, b"a", 2)
    assert caught.value.revision == last
    assert len(await events_of(client, b"a", last, 1)) == 1


async def events_of_once(client: Etcd, prefix: bytes, start: int) -> None:
    """Watch until it ends."""
    async with aclosing(client.watch(prefix, start)) as batches:
        async for _ in batches:
            pass


async def test_end_of_the_server(start, connect):
    """It is noticed at once, and the watch goes on when the server is back."""
    server = start()
    client = connect(server.urls)
    last = await client.put(b"a", b"1")
    async with aclosing(client.watch(b"a", last + 1)) as batches:
        await anext(batches)
        server.kill()
        with pytest.raises(WatchEnded):
            await anext(batches)
    with pytest.raises(EtcdError):
        await events_of_once(client, b"a", last + 1)
    await asyncio.to_thread(server.start)
    watching = asyncio.gather(events_of(client, b"a", last + 1, 1))
    await client.put(b"a", b"2")
    [[found]] = await watching
    assert found.value == b"2"


async def test_closing_a_watch_frees_its_connection(connect, shared_etcd, prefix):
    """The other end sees it."""
    async with Proxy(shared_etcd.servers[0].port) as proxy:
        client = connect(proxy.url)
        async with aclosing(client.watch(prefix, 1)) as batches:
            await anext(batches)
            assert not proxy.idle.is_set()
        await proxy.idle.wait()
        await client.close()


async def test_two_hundred_watches(connect, shared_etcd, prefix):
    """They do not keep calls waiting."""
    client = connect(shared_etcd.urls)
    start = await client.put(prefix, b"")
    watches = [events_of(client, prefix, start + 1, 1) for _ in range(200)]
    watching = asyncio.gather(*watches)
    await client.put(prefix, b"x")
    assert {event.value for [event] in await watching} == {b"x"}
