"""Keys and leases of a real etcd."""

import asyncio

import pytest

from derpmesh.etcd.client import Etcd
from derpmesh.etcd.errors import Compacted, LeaseLost
from tests.support.etcd import Cluster, compact
from tests.support.proxy import Proxy


pytestmark = pytest.mark.interop

ANY_BYTES = bytes(range(256))


async def test_no_such_key(etcd: Etcd, prefix):
    """It is no error."""
    assert await etcd.get(prefix) is None
    assert (await etcd.range_prefix(prefix)).items == ()
    await etcd.delete(prefix)


@pytest.mark.parametrize("value", [b"", b"x", ANY_BYTES, "漢".encode(), b"x" * 100_000])
async def test_put_and_get(etcd, prefix, value):
    """Bytes come back as they were."""
    key = prefix + ANY_BYTES
    first = await etcd.put(key, value)
    second = await etcd.put(key, value)
    found = await etcd.get(key)
    assert found is not None
    assert (found.key, found.value, found.lease) == (key, value, 0)
    assert (found.create_revision, found.mod_revision) == (first, second)
    assert found.version == 2


async def test_list_in_pages(etcd, prefix):
    """All of one revision, whatever their number is, and none beside them."""
    wanted = {prefix + b"%03d" % number: b"%d" % number for number in range(25)}
    for key, value in wanted.items():
        last = await etcd.put(key, value)
    await etcd.put(prefix[:-1] + b"0", b"beside")
    for page in (1, 7, 25, 1000):
        found = await etcd.range_prefix(prefix, page=page)
        assert {one.key: one.value for one in found.items} == wanted
        assert found.revision == last + 1
    old = await etcd.range_prefix(prefix, last - 1)
    assert len(old.items) == 24


async def test_last_prefix(etcd):
    """There is no key after it."""
    await etcd.put(b"\xff\xff", b"x")
    assert len((await etcd.range_prefix(b"\xff")).items) == 1
    await etcd.delete(b"\xff\xff")


async def test_delete(etcd, prefix):
    """One key, not what begins so."""
    await etcd.put(prefix, b"a")
    await etcd.put(prefix + b"b", b"b")
    await etcd.delete(prefix)
    [left] = (await etcd.range_prefix(prefix)).items
    assert left.key == prefix + b"b"


async def test_compare_and_put(etcd, prefix):
    """Only who read the last one writes the next one."""
    created = await etcd.txn_put(prefix, b"1", 0)
    assert created is not None
    assert await etcd.txn_put(prefix, b"again", 0) is None
    changed = await etcd.txn_put(prefix, b"2", created)
    assert changed is not None
    assert await etcd.txn_put(prefix, b"late", created) is None
    found = await etcd.get(prefix)
    assert found is not None
    assert (found.value, found.mod_revision) == (b"2", changed)


async def test_nobody_overwrites_another(connect, shared_etcd: Cluster, prefix):
    """Three append to one value; none of what was acknowledged is lost."""

    async def append(name: str) -> list[bytes]:
        client = connect(shared_etcd.urls)
        done: list[bytes] = []
        while len(done) < 10:
            before = await client.get(prefix)
            mark = f"{name}{len(done)},".encode()
            value = (before.value if before else b"") + mark
            expected = before.mod_revision if before else 0
            if await client.txn_put(prefix, value, expected) is not None:
                done.append(mark)
        return done

    done = await asyncio.gather(*map(append, "abc"))
    found = await connect(shared_etcd.urls).get(prefix)
    assert sorted(found.value.split(b",")[:-1]) == sorted(
        mark[:-1] for marks in done for mark in marks
    )


async def test_compacted_revision(start, connect):
    """It can no longer be read."""
    server = start()
    client = connect(server.urls)
    first = await client.put(b"a", b"1")
    await client.put(b"a", b"2")
    last = await client.put(b"a", b"3")
    compact(server.urls[0], last)
    with pytest.raises(Compacted):
        await client.range_prefix(b"a", first)


@pytest.mark.parametrize("piece", [1, 7])
async def test_answers_in_small_pieces(connect, shared_etcd, prefix, piece):
    """However the network cuts them, calls and watches are the same."""
    async with Proxy(shared_etcd.servers[0].port) as proxy:
        proxy.piece = piece
        client = connect(proxy.url)
        began = await client.put(prefix + b"a", ANY_BYTES)
        await client.put(prefix + b"b", b"")
        found = await client.range_prefix(prefix)
        assert [one.value for one in found.items] == [ANY_BYTES, b""]
        watch = client.watch(prefix, began)
        seen: list[bytes] = []
        async for batch in watch:
            seen += [event.key for event in batch.events]
            if len(seen) == 2:
                break
        await watch.aclose()
        assert seen == [prefix + b"a", prefix + b"b"]
        await client.close()


# Leases.


async def test_lease(etcd, prefix):
    """Its keys end with it."""
    lease = await etcd.lease_grant(60)
    assert lease.ttl == 60
    await etcd.put(prefix + b"a", b"", lease.id)
    assert await etcd.txn_put(prefix + b"b", b"", 0, lease.id) is not None
    found = await etcd.range_prefix(prefix)
    assert {one.lease for one in found.items} == {lease.id}
    assert await etcd.lease_keepalive(lease.id) == 60
    await etcd.lease_revoke(lease.id)
    assert (await etcd.range_prefix(prefix)).items == ()


async def test_lost_lease(etcd, prefix):
    """It is told by all that would use it."""
    lease = await etcd.lease_grant(60)
    await etcd.lease_revoke(lease.id)
    await etcd.lease_revoke(lease.id)
    with pytest.raises(LeaseLost):
        await etcd.lease_keepalive(lease.id)
    with pytest.raises(LeaseLost):
        await etcd.put(prefix, b"", lease.id)
    with pytest.raises(LeaseLost):
        await etcd.txn_put(prefix, b"", 0, lease.id)


async def test_lease_that_nobody_keeps(etcd, prefix):
    """It ends by itself, and a watch tells it."""
    lease = await etcd.lease_grant(1)
    revision = await etcd.put(prefix, b"", lease.id)
    watch = etcd.watch(prefix, revision + 1)
    async with asyncio.timeout(30):
        async for batch in watch:
            if batch.events:
                break
    await watch.aclose()
    assert [event.key for event in batch.events] == [prefix]
    with pytest.raises(LeaseLost):
        await etcd.lease_keepalive(lease.id)
