"""Clusters of a real etcd that break, and what their clients make of it."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing
from pathlib import Path

import pytest

from derpmesh.etcd.client import Etcd, Patience
from derpmesh.etcd.errors import Ambiguous, EtcdError, StaleAnswer, WatchEnded
from tests.mesh.etcds import one_version
from tests.support.etcd import Cluster, Server
from tests.support.proxy import Proxy


pytestmark = [pytest.mark.interop, pytest.mark.timeout(120)]

PATIENT = Patience(attempt=1.5, deadline=30.0)
"""An attempt is left soon, and a call waits for an election on a busy machine."""


@pytest.fixture(autouse=True)
async def in_time() -> AsyncIterator[None]:
    """End what waits for an event that does not come."""
    async with asyncio.timeout(100):
        yield


@pytest.fixture
def three(start) -> Cluster:
    """Give three members."""
    return start(3)


def current(cluster: Cluster, client: Etcd) -> Server:
    """Give the member that a client asks."""
    return next(one for one in cluster.servers if one.url == client.endpoint)


async def wait_for(client: Etcd, start: int, value: bytes) -> None:
    """Watch until a value comes, resuming wherever the watch ends."""
    while True:
        try:
            async with aclosing(client.watch(b"a", start)) as batches:
                async for batch in batches:
                    start = batch.revision + 1
                    if any(getattr(one, "value", b"") == value for one in batch.events):
                        return
        except EtcdError:
            await asyncio.sleep(0.05)


async def settled(client: Etcd, key: bytes, value: bytes) -> int:
    """Store a value, however often it takes."""
    while True:
        try:
            return await client.put(key, value)
        except Ambiguous:
            continue


@pytest.mark.parametrize("how", ["kill", "pause"])
async def test_endpoint_dies(three, connect, how):
    """Killed or standing still: calls, lease and watch go on elsewhere."""
    client = connect(three.urls, patience=PATIENT)
    lease = await client.lease_grant(60)
    revision = await client.put(b"a", b"1", lease.id)
    watching = asyncio.gather(wait_for(client, revision + 1, b"2"))
    await asyncio.sleep(0)
    left = current(three, client)
    getattr(left, how)()
    assert await client.lease_keepalive(lease.id) == 60
    await settled(client, b"a", b"2")
    await watching
    assert client.endpoint != left.url
    found = await client.get(b"a")
    assert found is not None
    assert found.value == b"2"


@pytest.mark.parametrize("how", ["kill", "pause"])
async def test_watch_of_a_dead_endpoint(three, connect, how):
    """A call that finds it dead ends the watch as well."""
    client = connect(three.urls, patience=PATIENT)
    await client.put(b"a", b"1")
    async with aclosing(client.watch(b"a", 1)) as batches:
        while not (await anext(batches)).events:
            pass
        getattr(current(three, client), how)()
        ended = asyncio.gather(anext(batches), return_exceptions=True)
        await client.get(b"a")
        [found] = await ended
    assert isinstance(found, WatchEnded)


async def test_all_members_one_after_the_other(three, connect):
    """Whoever is the leader: each is killed and comes back, and no put is lost."""
    client = connect(three.urls, patience=PATIENT)
    for number, server in enumerate(three.servers):
        server.kill()
        await settled(client, b"a%d" % number, b"x")
        server.launch(three.peers)
        await asyncio.to_thread(server.until_ready)
    assert len((await client.range_prefix(b"a")).items) == 3


async def test_no_leader(three, connect):
    """The watch ends, and calls fail in time; both go on when there is one again."""
    client = connect(three.urls, patience=PATIENT)
    revision = await client.put(b"a", b"1")
    async with aclosing(client.watch(b"a", revision + 1)) as batches:
        await anext(batches)
        for server in three.servers:
            if server is not current(three, client):
                server.kill()
        with pytest.raises(EtcdError, match="no leader"):
            await anext(batches)
    hurried = connect(three.urls, patience=Patience(attempt=1.0, deadline=1.0))
    with pytest.raises(EtcdError):
        await hurried.put(b"a", b"never")
    watching = asyncio.gather(wait_for(client, revision + 1, b"2"))
    for server in three.servers:
        if server._process is None:
            server.launch(three.peers)
    await settled(client, b"a", b"2")
    await watching


@one_version
async def test_endpoint_that_never_was(three, connect):
    """It is passed over."""
    gone = three.servers[0]
    gone.kill()
    client = connect(three.urls, patience=PATIENT)
    assert await client.get(b"a") is None
    assert client.endpoint != gone.url


async def test_cluster_begins_anew(start, connect, tmp_path: Path):
    """Its history is shorter: that is told, until the caller takes it as it is."""
    cluster = start()
    client = connect(cluster.urls)
    for number in range(5):
        await client.put(b"a", b"%d" % number)
    cluster.kill()
    shutil.rmtree(cluster.servers[0]._folder / "data")
    await asyncio.to_thread(cluster.start)
    with pytest.raises(StaleAnswer):
        await client.range_prefix(b"a")
    with pytest.raises(StaleAnswer):
        await client.get(b"a")
    client.forget()
    assert (await client.range_prefix(b"a")).items == ()


@pytest.fixture
async def proxied(shared_etcd) -> AsyncIterator[list[Proxy]]:
    """Give two ways to one server."""
    async with AsyncExitStack() as stack:
        port = shared_etcd.servers[0].port
        yield [await stack.enter_async_context(Proxy(port)) for _ in range(2)]


@one_version
async def test_half_open_connection(proxied, connect, prefix):
    """Nothing is closed and nothing comes: the other way is taken, for all."""
    first, second = proxied
    client = connect([first.url, second.url], patience=PATIENT)
    lease = await client.lease_grant(60)
    revision = await client.put(prefix, b"1", lease.id)
    async with aclosing(client.watch(prefix, revision + 1)) as batches:
        await anext(batches)
        first.stall()
        ended = asyncio.gather(anext(batches), return_exceptions=True)
        assert await client.lease_keepalive(lease.id) == 60
        [found] = await ended
    assert isinstance(found, WatchEnded)
    assert client.endpoint == second.url
    await client.close()


@one_version
async def test_put_that_is_stalled(proxied, connect, prefix):
    """It is found to be missing; when it comes late, it is there."""
    first, second = proxied
    client = connect([first.url, second.url], patience=PATIENT)
    await client.put(prefix, b"1")
    first.stall()
    with pytest.raises(Ambiguous):
        await client.put(prefix, b"2")
    found = await client.get(prefix)
    assert found is not None
    assert found.value == b"1"
    await client.close()


@one_version
async def test_answers_are_cut_off(shared_etcd, connect, prefix):
    """Compare-and-put through networks that reset: none lost, and none done twice."""
    async with AsyncExitStack() as stack:
        port = shared_etcd.servers[0].port
        proxies = [await stack.enter_async_context(Proxy(port)) for _ in range(2)]
        over = asyncio.Event()

        async def cut() -> None:
            while not over.is_set():
                await asyncio.sleep(0.03)
                for proxy in proxies:
                    proxy.cut()

        async def append(name: str) -> None:
            client = connect([proxy.url for proxy in proxies], patience=PATIENT)
            for number in range(20):
                await add(client, prefix, f"{name}{number},".encode())
            await client.close()

        cutting = asyncio.gather(cut())
        await asyncio.gather(*map(append, "abc"))
        over.set()
        await cutting
    found = await connect(shared_etcd.urls).get(prefix)
    marks = found.value.split(b",")[:-1]
    wanted = [f"{name}{number}".encode() for name in "abc" for number in range(20)]
    assert sorted(marks) == sorted(wanted)


async def add(client: Etcd, key: bytes, mark: bytes) -> None:
    """Append a mark by compare-and-put until it is there, and never twice."""
    while True:
        before = await client.get(key)
        if before is not None and mark in before.value:
            return  # one whose outcome was not known
        value = (before.value if before else b"") + mark
        try:
            expected = before.mod_revision if before else 0
            if await client.txn_put(key, value, expected) is not None:
                return
        except Ambiguous:
            continue
