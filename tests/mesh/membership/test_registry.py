"""What every registry keeps to: one suite, over each backend there is."""

import asyncio
import random
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager
from itertools import pairwise

import pytest

from derpmesh.membership.errors import RegistryError
from derpmesh.membership.model import Change, Drain, Membership, Region
from derpmesh.membership.watcher import memberships
from derpnode.wire.keys import NodeKey
from tests.mesh.membership.registries import LOOK, REGISTRIES, Operator, Wants, look
from tests.mesh.membership.scene import REGION, A, B, C, D, content, member


PATIENCE = 5.0


@pytest.fixture(
    params=[
        pytest.param(
            kind, marks=[pytest.mark.interop] if kind.startswith("etcd") else []
        )
        for kind in REGISTRIES
    ]
)
async def operator(request, tmp_path, etcds) -> AsyncGenerator[Operator, None]:
    """Somebody who keeps a registry of one kind."""
    make = REGISTRIES[request.param]
    async with make(tmp_path, etcds) as keeping:
        yield keeping


class Follower:
    """Reads a registry, then follows it, as the port is meant to be used."""

    def __init__(self, before: Membership, changes: AsyncGenerator[Change]) -> None:
        self.membership = before
        self.changes: list[Change] = []
        self._stream = changes

    async def next(self) -> Membership:
        """Wait for one change."""
        async with asyncio.timeout(PATIENCE):
            change = await anext(self._stream)
        self.changes.append(change)
        self.membership = change.apply(self.membership)
        return self.membership

    async def until(self, *members, region=REGION) -> None:
        """Wait until the membership is this; a change may bring several."""
        while content(self.membership) != (region, list(members)):
            await self.next()


@asynccontextmanager
async def following(operator: Operator):
    """Follow a registry until the block ends."""
    before = await operator.registry.read()
    async with aclosing(operator.registry.changes(before.revision)) as changes:
        yield Follower(before, changes)


async def until_read(operator: Operator) -> Membership:
    """Read until the registry can be read again."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                return await operator.registry.read()
            except RegistryError:
                await asyncio.sleep(LOOK)


async def test_read(operator):
    """All of it, in the order of the map."""
    await operator.put(C, A, B, region=Region(id=950))
    found = await until_read(operator)
    assert content(found) == (Region(id=950), [C, A, B])


async def test_reading_twice_changes_nothing(operator):
    """The revision stays with what it stands for."""
    assert await operator.registry.read() == await operator.registry.read()


async def test_region_without_members(operator):
    """It is one all the same; the operator said so."""
    await operator.put()
    assert content(await operator.registry.read()) == (REGION, [])


async def test_member_comes(operator):
    """The change says no more than that."""
    async with following(operator) as follower:
        await operator.put(A, B)
        await follower.next()
        [change] = follower.changes
        assert (change.put, change.removed, change.region) == ((B,), frozenset(), None)
        assert content(follower.membership) == (REGION, [A, B])


async def test_member_changes(operator):
    """It is put anew, whole, and keeps its place."""
    moved = member("a", host="elsewhere.example.com", can_port80=True)
    await operator.put(A, B)
    async with following(operator) as follower:
        await operator.put(moved, B)
        await follower.next()
        [change] = follower.changes
        assert (change.put, change.removed, change.order) == (
            (moved,),
            frozenset(),
            None,
        )
        assert content(follower.membership) == (REGION, [moved, B])


async def test_member_goes(operator):
    """It is named."""
    await operator.put(A, B)
    async with following(operator) as follower:
        await operator.put(B)
        await follower.next()
        [change] = follower.changes
        assert (change.put, change.removed) == ((), frozenset({A.name}))
        assert content(follower.membership) == (REGION, [B])


async def test_order_changes(operator):
    """Alone; clients dial in that order."""
    await operator.put(A, B, C)
    async with following(operator) as follower:
        await operator.put(C, B, A)
        await follower.next()
        assert follower.changes[0].put == ()
        assert content(follower.membership) == (REGION, [C, B, A])


async def test_region_changes(operator):
    """Alone."""
    other = Region(id=902, code="other", name="Other")
    async with following(operator) as follower:
        await operator.put(A, region=other)
        await follower.next()
        assert content(follower.membership) == (other, [A])


async def test_drain_is_wished_for_and_not_any_more(operator):
    """Of one node; the members are what they were."""
    await operator.put(A, B)
    async with following(operator) as follower:
        await operator.put(A, B, wants=Wants(drains=[B.name]))
        await follower.next()
        assert follower.changes[0].put == ()
        assert follower.membership.drains == {B.name: Drain()}
        assert content(follower.membership) == (REGION, [A, B])
        await operator.put(A, B)
        await follower.next()
        assert follower.membership.drains == {}
    assert (await operator.registry.read()).drains == {}


async def test_rules_for_clients(operator):
    """They come and go, one by one, and are there when all is read."""
    first, second = NodeKey(b"\x01" * 32), NodeKey(b"\x02" * 32)
    async with following(operator) as follower:
        await operator.put(A, wants=Wants(clients={first: "deny", second: "allow"}))
        await follower.next()
        assert follower.membership.clients == {first: "deny", second: "allow"}
        assert (await operator.registry.read()).clients == {
            first: "deny",
            second: "allow",
        }
        await operator.put(A, wants=Wants(clients={first: "allow"}))
        await follower.next()
        assert follower.membership.clients == {first: "allow"}
        assert {change.put for change in follower.changes} == {()}


async def test_change_between_read_and_follow_is_not_lost(operator):
    """The revision that was read says where to go on."""
    before = await operator.registry.read()
    await operator.put(A, B)
    async with aclosing(operator.registry.changes(before.revision)) as changes:
        follower = Follower(before, changes)
        await follower.until(A, B)


async def test_changes_while_nobody_looks(operator):
    """They may come as one, but they come, in order, each once."""
    async with following(operator) as follower:
        for members in ([A, B], [B], [B, C], [C, B, D]):
            await operator.put(*members)
        await follower.until(C, B, D)
        await operator.put(A)
        await follower.until(A)
        before = (await operator.registry.read()).revision
    revisions = [change.revision for change in follower.changes]
    assert all(one < next_one for one, next_one in pairwise(revisions))
    assert revisions[-1] == before


async def test_follower_that_stopped_goes_on_where_it_was(operator):
    """Nothing is told twice to one that asks after what it knows."""
    async with following(operator) as follower:
        await operator.put(A, B)
        await follower.until(A, B)
    after = follower.membership.revision
    async with aclosing(operator.registry.changes(after)) as changes:
        again = Follower(follower.membership, changes)
        await operator.put(A, B, C)
        await again.until(A, B, C)
    assert [change.put for change in again.changes] == [(C,)]


async def test_failure_is_told_to_readers(operator):
    """At each read, until it is over; then what was put meanwhile is there."""
    await operator.fail()
    for _ in range(2):
        with pytest.raises(RegistryError):
            await operator.registry.read()
    await operator.put(A, B)
    await operator.heal()
    assert content(await until_read(operator)) == (REGION, [A, B])


async def test_failure_is_told_to_followers(operator):
    """Those that wait notice."""
    async with following(operator) as follower:
        await operator.fail()
        with pytest.raises(RegistryError):
            await follower.next()


async def test_return_with_nothing_new(operator):
    """What was known before is known by the same revision."""
    before = await operator.registry.read()
    await operator.fail()
    with pytest.raises(RegistryError):
        await operator.registry.read()
    await operator.heal()
    assert await until_read(operator) == before


@pytest.mark.parametrize("seed", range(3))
async def test_watcher_of_a_registry_that_comes_and_goes(operator, seed):
    """After whatever happened, what stands there last is what is known last."""
    chance = random.Random(seed)  # noqa: S311 - repeatable
    stream = memberships(
        operator.registry, backoff=lambda: iter([LOOK] * 1000), sleep=look
    )
    seen: list[Membership] = []
    async with asyncio.timeout(PATIENCE), aclosing(stream) as values:
        seen.append(await anext(values))
        for _ in range(8):
            await disturb(operator, chance)
            members = chance.sample([A, B, C, D], chance.randint(0, 4))
            await operator.put(*members)
            await settle(values, seen, members)
    revisions = [found.revision for found in seen]
    assert revisions == sorted(set(revisions))


async def disturb(operator: Operator, chance: random.Random) -> None:
    """Do what happens to registries."""
    for _ in range(chance.randint(0, 2)):
        await operator.put(*chance.sample([A, B, C, D], 2))
        await asyncio.sleep(LOOK * chance.randint(0, 3))
    if chance.random() < 1 / 2:
        await operator.fail()
        await asyncio.sleep(LOOK * chance.randint(0, 9))
        await operator.heal()


async def settle(values, seen: list[Membership], members) -> None:
    """Take values until one is as it should be."""
    while content(seen[-1]) != (REGION, members):
        seen.append(await anext(values))
