"""Clients that are on another node than their map prefers are moved back, slowly."""

import asyncio
import contextlib

import pytest

from derpmesh.etcd.client import Etcd
from derpmesh.membership.keys import Keys
from derpmesh.membership.leader import Leadership
from derpmesh.membership.records import HomingOrder, RegionIntent
from derpnode.client import Restarting
from derpnode.kinds import Kind
from tests.mesh.region import REGION, cluster, fresh_key, until
from tests.mesh.stewards import FileSteward, etcd_steward, running_etcd
from tests.support.etcd import putting, revoke, stored, transaction


FAST = {"after": 0.5, "interval": 0.4, "share": 0.01}
KEYS = Keys("/derpmesh/v1", REGION.id)


@pytest.fixture
async def region():
    """A region without nodes."""
    async with cluster() as found:
        yield found


@pytest.fixture
def etcd(tmp_path):
    """An etcd."""
    with running_etcd(tmp_path) as found:
        yield found


@pytest.fixture(params=["file", pytest.param("etcd", marks=[pytest.mark.interop])])
async def steward(request, region):
    """Somebody who keeps the registry of a region."""
    if request.param == "file":
        yield FileSteward(region)
        return
    async with etcd_steward(region, request.getfixturevalue("etcd")) as keeping:
        yield keeping


async def started(region, steward, letters: str, **homing: object):
    """Start nodes that are linked to each other, and know that all serve."""
    nodes = [steward.place(letter, homing=FAST | homing) for letter in letters]
    await steward.list(*nodes)
    for node in nodes:
        await region.start(node)
    await region.linked(*nodes)
    await until(
        lambda: all(
            node.node.region.siblings_serving == len(nodes) - 1 for node in nodes
        )
    )
    return nodes


class Roamer:
    """A client that goes where it is sent: to the node that its map prefers."""

    def __init__(self, region, home) -> None:
        self._region = region
        self._home = home
        self._private = fresh_key()
        self.moves = 0

    async def live(self, node) -> None:
        """Begin at a node, and go home whenever the connection ends."""
        while True:
            ideal = "" if node is self._home else self._home.name
            self.person = await self._region.connect(
                node, self._private, ideal_node=ideal
            )
            await self.person.until(lambda: self.person.ended)
            if not any(isinstance(m, Restarting) for m in self.person.messages):
                return
            self.moves += 1
            node = self._home


async def test_they_come_home_one_by_one(region, steward):
    """Each is told, moved once, and reaches the others all the time."""
    a, b = await started(region, steward, "ab")
    roamers = [Roamer(region, a) for _ in range(4)]
    stays = await region.connect(b)
    for roamer in roamers:
        region.spawn(roamer.live(b))
    await until(lambda: population(b) == 5)
    assert a.node.region.strays() == {}
    await until(lambda: (population(a), population(b)) == (4, 1))
    assert [roamer.moves for roamer in roamers] == [1] * 4
    assert stays.ended == ""
    for roamer in roamers:
        person = roamer.person
        await until(lambda p=person: p.key in b.node.relay._forwarders)
        await stays.send(person, b"welcome home")
        await person.until(lambda p=person: p.packets(stays) == [b"welcome home"])
    told = [event for event in b.node.journal.after(0) if event.kind is Kind.HOMING]
    assert {event.subject for event in told} == {"900a"}
    assert sum(event.fields["clients"] for event in told) == 4


async def test_nobody_is_moved_to_a_node_that_does_not_serve(region, steward):
    """Not before it has been serving for a while."""
    a, b, _ = await started(region, steward, "abc", after=3.0)
    await a.ask("/v1/drain?grace=0", "POST")
    await until(lambda: b.node.region.siblings_serving == 1)
    person = await region.connect(b, ideal_node=a.name)
    clock = asyncio.get_running_loop().time
    await until(lambda: b.node.region.strays() == {"900a": 1})
    end = clock() + 4 * FAST["interval"] + 3.0
    await until(lambda: clock() > end)
    assert person.ended == ""
    began = clock()
    await a.ask("/v1/undrain", "POST")
    await person.until(lambda: person.ended)
    assert clock() - began >= 3.0


async def test_off(region, steward):
    """The switch of a node."""
    _, b = await started(region, steward, "ab", enabled=False)
    person = await region.connect(b, ideal_node="900a")
    await until(lambda: b.node.region.strays() == {"900a": 1})
    clock = asyncio.get_running_loop().time
    end = clock() + FAST["after"] + 5 * FAST["interval"]
    await until(lambda: clock() > end)
    assert person.ended == ""


@pytest.mark.interop
async def test_off_for_the_whole_region(region, etcd):
    """The operators' switch in the registry: nothing is ordered until it is on."""
    intent = RegionIntent(**REGION.model_dump(), bring_home=False)
    transaction(etcd.url, putting(KEYS.region, intent.write()))
    async with etcd_steward(region, etcd) as steward:
        _, b = await started(region, steward, "ab")
        person = await region.connect(b, ideal_node="900a")
        await until(lambda: b.node.region.strays() == {"900a": 1})
        clock = asyncio.get_running_loop().time
        end = clock() + FAST["after"] + 5 * FAST["interval"]
        await until(lambda: clock() > end)
        assert person.ended == ""
        assert stored(etcd.url, KEYS.of("orders", "homing")) is None
        on = intent.model_copy(update={"bring_home": True})
        transaction(etcd.url, putting(KEYS.region, on.write()))
        await person.until(lambda: person.ended)


@pytest.mark.interop
async def test_one_node_leads(region, etcd):
    """All know which, and another one does when it is gone."""
    async with etcd_steward(region, etcd) as steward:
        nodes = await started(region, steward, "abc")
        await until(lambda: len(leaders(nodes)) == 1 and "" not in leaders(nodes))
        [name] = leaders(nodes)
        [first] = [node for node in nodes if node.name == name]
        others = [node for node in nodes if node is not first]
        await first.stop()
        await until(lambda: leaders(others) < {node.name for node in others})
        await until(lambda: len(leaders(others)) == 1)


def leaders(nodes) -> set[str]:
    """Who leads, as each node knows it."""
    return {str(node.node.region.membership()["leader"]) for node in nodes}


def population(node) -> int:
    """How many clients a node has."""
    return sum(not client.mesh for client in node.node.relay.clients())


@contextlib.asynccontextmanager
async def candidate(etcd, name: str):
    """Somebody who may lead, with a lease."""
    client = Etcd([etcd.url])
    lease = (await client.lease_grant(60)).id
    try:
        yield Leadership(client, KEYS, name, f"{name}-1", lambda: lease), lease
    finally:
        await client.close()


@pytest.mark.interop
async def test_leader_that_was_replaced_writes_nothing(etcd):
    """F13: it does not know yet, but etcd does; the map of moves is one hand's."""
    key = KEYS.of("orders", "homing")

    def order(number: str, leader: str) -> HomingOrder:
        return HomingOrder(number=number, leader=leader, moves={})

    async with candidate(etcd, "900a") as (a, lease), candidate(etcd, "900b") as (b, _):
        assert (await a.look(), await b.look()) == (True, False)
        assert (a.leader, b.leader) == ("900a", "900a")
        assert await a.put(key, order("1", "900a"))
        assert not await b.put(key, order("2", "900b"))
        await asyncio.to_thread(revoke, etcd.url, lease)
        assert a.is_leader  # as far as it knows
        assert await b.look()
        assert not await a.put(key, order("3", "900a"))
        assert not a.is_leader
        assert await b.put(key, order("4", "900b"))
        found = HomingOrder.read(key, stored(etcd.url, key).value)
        assert (found.number, found.leader) == ("4", "900b")
        assert not await a.look()


@pytest.mark.interop
async def test_candidates_at_the_same_time(etcd):
    """One of them leads, whoever is first, and looks again in peace."""
    async with contextlib.AsyncExitStack() as stack:
        names = [f"900{letter}" for letter in "abcde"]
        found = [await stack.enter_async_context(candidate(etcd, n)) for n in names]
        for _ in range(3):
            led = await asyncio.gather(*(one.look() for one, _ in found))
            assert sum(led) == 1
            assert {one.leader for one, _ in found} == {names[led.index(True)]}
