"""The registry in a real etcd: what may become of records, and of etcd."""

import asyncio
import shutil
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import aclosing, asynccontextmanager
from itertools import repeat

import pytest

from derpmesh.etcd.answers import Batch, Listing
from derpmesh.etcd.client import Etcd, Patience
from derpmesh.etcd.errors import StaleAnswer
from derpmesh.membership.errors import RegistryUnavailable, RevisionCompacted
from derpmesh.membership.etcd import EtcdRegistry
from derpmesh.membership.keys import Keys
from derpmesh.membership.model import Change, Member, Membership, Region
from derpmesh.membership.records import LiveMember, NodeIntent, RegionIntent
from derpmesh.membership.watcher import memberships
from tests.mesh.membership.registries import LOOK, SHORT, look, way_to
from tests.mesh.membership.scene import REGION, A, B, C, content
from tests.mesh.region import measured, until
from tests.support.etcd import (
    Server,
    cluster,
    compact,
    deleting,
    putting,
    revoke,
    stored,
    transaction,
)


pytestmark = [pytest.mark.interop, pytest.mark.timeout(120)]

PATIENCE = 20.0


class Records:
    """The records of a region, as operators change them."""

    def __init__(self, url: str, keys: Keys) -> None:
        self.url = url
        self.keys = keys

    def put(self, *members: Member, removed: bool = False) -> int:
        """Say that these are wanted; give the revision."""
        intents = [NodeIntent(node=one, removed=removed) for one in members]
        return transaction(
            self.url, *(putting(self.key(one.node), one.write()) for one in intents)
        )

    def spoil(self, found: Member) -> int:
        """Put garbage where a record of a member is to be."""
        return transaction(self.url, putting(self.key(found), b"garbage"))

    def delete(self, found: Member) -> int:
        """Delete the record of a member."""
        return transaction(self.url, deleting(self.key(found)))

    def key(self, found: Member) -> bytes:
        """Give where the record of a member is."""
        return self.keys.of("intent", found.name)


@pytest.fixture
def records(shared_etcd, keys) -> Records:
    """Those of one region; there is one member, and nobody named the region."""
    [url] = shared_etcd.urls
    found = Records(url, keys)
    found.put(A)
    return found


@pytest.fixture
def registry(etcd, keys) -> EtcdRegistry:
    """The registry under test."""
    return EtcdRegistry(etcd, keys, REGION)


@pytest.fixture
def server(shared_etcd, tmp_path) -> Iterator[Server]:
    """Give an etcd of its own, which may be killed; its data is in `e1/data`."""
    found = cluster(tmp_path)
    try:
        [one] = found.start().servers
        yield one
    finally:
        found.kill()


@asynccontextmanager
async def following(
    registry: EtcdRegistry,
) -> AsyncGenerator[AsyncGenerator[Change, None], None]:
    """Read, then follow the changes until the block ends."""
    before = await registry.read()
    async with asyncio.timeout(PATIENCE):
        async with aclosing(registry.changes(before.revision)) as changes:
            yield changes


@asynccontextmanager
async def watching(
    registry: EtcdRegistry,
) -> AsyncGenerator[Callable[[], Awaitable[Membership]], None]:
    """Take memberships as a node does, until the block ends; give them one by one."""
    found: asyncio.Queue[Membership] = asyncio.Queue()

    async def take() -> None:
        stream = memberships(registry, backoff=lambda: repeat(LOOK), sleep=look)
        async with aclosing(stream) as values:
            async for value in values:
                found.put_nowait(value)

    async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as tasks:
        job = tasks.create_task(take())
        yield found.get
        job.cancel()


async def _next(changes: AsyncGenerator[Change, None]) -> Change:
    return await anext(changes)


# Records.


async def test_region_that_nobody_named(registry, records):
    """It is called as the node's own settings say, until somebody does."""
    found = await registry.read()
    assert content(found) == (REGION, [A])
    other = RegionIntent(id=901, code="other", name="Other")
    async with following(registry) as changes:
        transaction(records.url, putting(records.keys.region, other.write()))
        change = await anext(changes)
    assert change.region == Region(id=901, code="other", name="Other")


async def test_order(registry, records):
    """Those that it does not name are last, sorted; who is not there is left out."""
    records.put(B, C)
    wanted = RegionIntent(**REGION.model_dump(), order=["901c", "901x", "901c"])
    transaction(records.url, putting(records.keys.region, wanted.write()))
    assert content(await registry.read()) == (REGION, [C, A, B])


async def test_record_that_breaks(registry, records, caplog):
    """It stays in force as it last was, and others still change. It is said once."""
    async with following(registry) as changes:
        records.spoil(A)
        revision = records.put(B)
        change = await anext(changes)
        assert (change.put, change.removed) == ((B,), frozenset())
        assert content(await registry.read()) == (REGION, [A, B])
    key = records.key(A).decode()
    assert registry.bad == [key]
    assert change.revision <= revision
    assert [one for one in caplog.messages if key in one] == [
        f"etcd: {key}: not JSON: Expecting value: line 1 column 1 (char 0)"
    ]


async def test_record_that_never_was_good(registry, records):
    """It is left out until it is mended."""
    records.spoil(B)
    assert content(await registry.read()) == (REGION, [A])
    assert registry.bad == [records.key(B).decode()]
    async with following(registry) as changes:
        records.put(B)
        assert (await anext(changes)).put == (B,)
    assert registry.bad == []


async def test_broken_record_that_is_mended_as_it_was(registry, records):
    """Nothing has changed then, and nothing is bad."""
    await registry.read()
    records.spoil(A)
    await registry.read()
    records.put(A)
    assert content(await registry.read()) == (REGION, [A])
    assert registry.bad == []


async def test_broken_record_that_is_deleted(registry, records):
    """So is what it last was, for good."""
    await registry.read()
    records.spoil(A)
    await registry.read()
    records.delete(A)
    assert content(await registry.read()) == (REGION, [])
    assert registry.bad == []
    records.spoil(A)
    assert content(await registry.read()) == (REGION, [])


async def test_record_under_the_name_of_another(registry, records):
    """It is of neither."""
    stray = NodeIntent(node=A).write()
    transaction(records.url, putting(records.key(B), stray))
    assert content(await registry.read()) == (REGION, [A])
    assert registry.bad == [records.key(B).decode()]


async def test_record_of_the_region_that_breaks(registry, records):
    """As with the others."""
    wanted = RegionIntent(**REGION.model_dump(), order=["901b"])
    records.put(B)
    for value in (wanted.write(), b'{"id": 70000, "code": "x", "name": "x"}'):
        transaction(records.url, putting(records.keys.region, value))
        assert content(await registry.read()) == (REGION, [B, A])
    assert registry.bad == [records.keys.region.decode()]


async def test_record_that_is_deleted(registry, records):
    """The member goes; nobody has struck it."""
    records.put(B)
    async with following(registry) as changes:
        records.delete(A)
        change = await anext(changes)
    assert (change.removed, change.struck) == (frozenset({A.name}), None)


async def test_member_that_is_taken_out(registry, records):
    """It goes, and that is known to be meant; it may be added again."""
    records.put(B)
    async with following(registry) as changes:
        records.put(A, removed=True)
        change = await anext(changes)
        assert (change.removed, change.struck) == ({A.name}, {A.name})
        records.put(A)
        change = await anext(changes)
        assert (change.put, change.struck) == ((A,), frozenset())


async def test_lease_that_ends_is_no_change(registry, records, etcd):
    """What a node says of itself is kept beside the membership."""
    said = LiveMember(
        name="901a",
        server_key="nodekey:a",
        instance="one",
        epoch=1,
        version="1",
        state="serving",
    )
    async with following(registry) as changes:
        lease = (await etcd.lease_grant(60)).id
        await etcd.put(records.keys.of("members", "901a"), said.write(), lease)
        records.put(B)
        assert (await anext(changes)).put == (B,)
        assert registry.live == {"901a": said}
        revoke(records.url, lease)
        records.put(C)
        assert (await anext(changes)).put == (C,)
    assert registry.live == {}


async def test_what_others_keep_below_the_region(registry, records):
    """It is nobody's record, good or bad."""
    for name in (b"status/901a", b"other/901a", b"intent/901a/more", b"x"):
        transaction(records.url, putting(records.keys.root + name, b"garbage"))
    assert content(await registry.read()) == (REGION, [A])
    assert registry.bad == []


# History.


async def test_history_that_is_compacted(registry, records):
    """F5: who asks after what is forgotten is told to read anew."""
    records.put(B)
    before = await registry.read()
    records.delete(B)
    compact(records.url, records.put(C))
    async with aclosing(registry.changes(before.revision)) as changes:
        with pytest.raises(RevisionCompacted):
            await anext(changes)


async def test_compaction_while_cut_off(shared_etcd, keys, records):
    """F5: the next reading sees what was deleted meanwhile."""
    [server] = shared_etcd.servers
    records.put(B)
    async with (
        way_to(server) as (proxy, client),
        watching(EtcdRegistry(client, keys, REGION)) as next_one,
    ):
        assert content(await next_one()) == (REGION, [A, B])
        await proxy.refuse()
        records.delete(B)
        compact(records.url, records.put(C))
        await proxy.accept()
        with measured("a member deleted and compacted away is seen to be gone"):
            assert content(await next_one()) == (REGION, [A, C])


class DeafEtcd(Etcd):
    """A client whose watches begin, and then tell nothing: as is not promised."""

    async def watch(
        self, prefix: bytes, from_revision: int
    ) -> AsyncGenerator[Batch, None]:
        """Say that it has begun."""
        yield Batch(from_revision - 1, ())
        await asyncio.Event().wait()


async def test_watch_that_misses_a_change(shared_etcd, keys, records, caplog):
    """All is read from time to time, and the difference is told. Silence is none."""
    client = DeafEtcd(shared_etcd.urls, patience=SHORT)
    drawn: list[tuple[float, float]] = []

    def uniform(least: float, most: float) -> float:
        drawn.append((least, most))
        return LOOK

    registry = EtcdRegistry(client, keys, REGION, uniform=uniform)
    records.put(B)
    async with following(registry) as changes:
        async with asyncio.TaskGroup() as tasks:
            told = tasks.create_task(_next(changes))
            await until(lambda: len(drawn) > 3)
            assert not told.done()
            records.delete(A)
        assert told.result().removed == {A.name}
    assert set(drawn) == {(60.0, 90.0)}
    assert "etcd: the watch missed a change, which a reading found" in caplog.messages
    await client.close()


# A history that begins anew.


class OnceStale(Etcd):
    """A client that is told of the past, as often as it is to be."""

    times = 1

    async def range_prefix(
        self, prefix: bytes, revision: int = 0, *, page: int = 500
    ) -> Listing:
        """Read, unless it is to be told of the past."""
        if self.times:
            self.times -= 1
            raise StaleAnswer(self.endpoint, "revision", 9, 5)
        return await super().range_prefix(prefix, revision, page=page)


async def test_one_answer_from_the_past_is_not_believed(shared_etcd, keys, records):
    """It may be a member that lags: another one is asked, and nothing begins anew."""
    second = "http://127.0.0.1:1"
    patient = Patience(attempt=1.0, deadline=10.0)  # `second` may be asked again
    client = OnceStale([*shared_etcd.urls, second], patience=patient)
    registry = EtcdRegistry(client, keys, REGION)
    with pytest.raises(RegistryUnavailable, match="revision is 5, was 9; it is older"):
        await registry.read()
    assert client.endpoint == second
    found = await registry.read()
    assert (content(found), found.generation) == ((REGION, [A]), 0)
    client.times = 1
    with pytest.raises(RegistryUnavailable):
        await registry.read()
    assert (await registry.read()).generation == 0
    await client.close()


async def test_etcd_is_restored_from_a_backup(server, tmp_path, keys, caplog):
    """F8: revisions go back; that is believed at the second answer, and said."""
    records = Records(server.url, keys)
    records.put(A)
    backup, data = tmp_path / "backup", tmp_path / "e1" / "data"
    server.kill()
    shutil.copytree(data, backup)
    await start_again(server)
    for found in (B, C, B, C):
        last = records.put(found)
    client = Etcd([server.url], patience=SHORT)
    async with watching(EtcdRegistry(client, keys, REGION)) as next_one:
        before = await next_one()
        assert (content(before), before.revision) == ((REGION, [A, B, C]), last)
        server.kill()
        shutil.rmtree(data)
        backup.rename(data)
        await start_again(server)
        after = await next_one()
    assert content(after) == (REGION, [A])
    assert (before.generation, after.generation) == (0, 1)
    assert after.revision < before.revision
    assert after.place > before.place
    assert any("taken as it is from now on" in one for one in caplog.messages)
    await client.close()


async def start_again(server: Server) -> None:
    """Start a server with the data that is there."""
    server.launch({server.name: server.peer_url})
    await asyncio.to_thread(server.until_ready)


async def test_another_cluster(shared_etcd, server, keys, records):
    """At the same address: it is taken for what etcd is now, and is followed."""
    [first] = shared_etcd.servers
    other = Records(server.url, keys)
    other.put(B)
    async with (
        way_to(first) as (proxy, client),
        watching(EtcdRegistry(client, keys, REGION)) as next_one,
    ):
        assert content(await next_one()) == (REGION, [A])
        proxy._target = server.port
        proxy.cut()
        found = await next_one()
        assert (content(found), found.generation) == ((REGION, [B]), 1)
        other.put(C)
        found = await next_one()
        assert (content(found), found.generation) == ((REGION, [B, C]), 1)
    assert stored(first.url, records.key(A)) is not None
