"""M10: draining a node of a region: told first, idle first, and the mesh stays."""

import asyncio

import pytest

from derpnode.client import DialFailed, Health, Received, Restarting
from derpnode.server import goodbye
from tests.mesh.region import cluster, measured, until


STUN_WAIT = 0.3
"""Seconds without an answer that mean there will be none; others take a moment."""


@pytest.fixture
async def region():
    """A region without nodes."""
    async with cluster() as found:
        yield found


@pytest.fixture
async def trio(region):
    """Three nodes that are linked to each other, and know that all serve."""
    nodes = [region.place(letter) for letter in "abc"]
    region.write(*nodes)
    for node in nodes:
        await region.start(node)
    await region.linked(*nodes)
    await until(lambda: all(node.node.region.siblings_serving == 2 for node in nodes))
    return nodes


def peer_states(node) -> dict[str, str]:
    """What the peers of a node say of themselves."""
    return {
        str(link["peer"]): str(link["peer_state"]) for link in node.node.region.links()
    }


async def drain(node, query: str = "grace=20") -> tuple[int, dict]:
    """Drain a node as operators do."""
    return await node.ask(f"/v1/drain?{query}", "POST")


async def test_clients_are_told_and_sent_away(region, trio):
    """The listener first, so that they come back to another node."""
    a, b, c = trio
    people = [await region.connect(a) for _ in range(3)]
    elsewhere = await region.connect(b)
    with measured("a drain of three clients") as lasted:
        status, said = await drain(a)
        assert (status, said["name"]) == (200, "900a")
        assert said["state"] in {"draining", "drained"}
        assert await a.refuses()
        for person in people:
            await person.until(lambda p=person: p.ended)
        await until(lambda: a.node.state == "drained")
        assert lasted() < 3.0
    for person in people:
        assert Health("this relay is in maintenance") in person.messages
        assert Restarting(0.0, 20.0) in person.messages
    assert elsewhere.ended == ""
    with pytest.raises(DialFailed):
        await region.connect(a)
    for node in (b, c):
        await until(lambda n=node: peer_states(n)["900a"] == "drained")
        assert node.node.region.siblings_serving == 1


async def test_idle_clients_go_first(region, trio, monkeypatch):
    """Those with traffic have the longest to find another node."""
    a, b, _ = trio
    monkeypatch.setattr(goodbye, "PACE", 2)  # with two siblings, one client a step
    names = ["busy", "idle", "busier", "idler"]
    people = {name: await region.connect(a) for name in names}
    partner = await region.connect(b)
    for name, count in {"busier": 9, "busy": 5, "idle": 1, "idler": 0}.items():
        for _ in range(count):
            await people[name].send(partner, name.encode())
        await partner.until(
            lambda n=name, c=count: len(partner.packets(people[n])) == c
        )
    await drain(a)
    for person in people.values():
        await person.until(lambda p=person: p.ended)
    left = sorted(people, key=lambda name: people[name].ended_at)
    assert left == ["idler", "idle", "busy", "busier"]


async def test_links_stay(region, trio):
    """Both ways: packets in flight need their way until the last client has left."""
    a, b, c = trio
    await drain(a)
    await until(lambda: a.node.state == "drained")
    await until(lambda: peer_states(b)["900a"] == "drained")
    assert [node.ups for node in trio] == [
        {"900b", "900c"},
        {"900a", "900c"},
        {"900a", "900b"},
    ]
    one, two = await region.connect(b), await region.connect(c)
    await one.send(two, b"around it")
    await two.told(Received(one.key, b"around it"))


async def test_packets_reach_those_who_are_still_there(region, trio, monkeypatch):
    """And leave from them."""
    monkeypatch.setattr(goodbye, "PACE", 1)
    a, b, _ = trio
    people = [await region.connect(a) for _ in range(4)]
    sender = await region.connect(b)
    await until(lambda: people[-1].key in b.node.relay._forwarders)
    await drain(a)
    await people[0].until(lambda: any(person.ended for person in people))
    last = people[-1]
    assert last.ended == ""
    await sender.send(last, b"still there?")
    await last.told(Received(sender.key, b"still there?"))
    await last.send(sender, b"still here")
    await sender.told(Received(last.key, b"still here"))


async def test_last_serving_node_is_not_drained(region, trio):
    """Unless by force; its clients would have nowhere to go."""
    a, b, c = trio
    for node, left in ((a, 1), (b, 0)):
        assert (await drain(node))[0] == 200
        await until(lambda n=left: c.node.region.siblings_serving == n)
    status, said = await drain(c)
    assert status == 409
    assert "900c is the last serving node of its region" in str(said)
    assert c.node.state == "serving"
    assert not await c.refuses()
    status, said = await drain(c, "grace=1&force=1")
    assert status == 200
    await until(lambda: c.node.state == "drained")


async def test_node_alone_is_not_drained(region):
    """A region of one is no region to go elsewhere in."""
    a = region.place("a")
    region.write(a)
    await region.start(a)
    assert (await drain(a))[0] == 409


async def test_node_whose_links_are_down_is_not_drained(region, trio):
    """As far as it knows, nobody else serves."""
    a, b, c = trio
    for node in (b, c):
        await node.stop()
    await until(lambda: a.ups == set())
    assert (await drain(a))[0] == 409


async def test_stun_of_a_drained_node(region, trio):
    """It answers while a sibling serves: clients measure the region by it."""
    a, b, c = trio
    await drain(a)
    await until(lambda: a.node.state == "drained")
    assert await a.answers_stun(STUN_WAIT)
    await drain(b)
    await until(lambda: c.node.region.siblings_serving == 0)
    await drain(c, "grace=1&force=1")
    await until(lambda: a.node.region.siblings_serving == 0)
    for node in (a, c):
        assert not await node.answers_stun(STUN_WAIT)
    await c.ask("/v1/undrain", "POST")
    with measured("STUN of a drained node after a sibling serves again"):
        async with asyncio.timeout(5.0):
            while not await a.answers_stun(STUN_WAIT):
                pass
    assert await c.answers_stun(STUN_WAIT)


async def test_undrain(region, trio):
    """It takes clients again, on the port that it had, and others know."""
    a, b, _ = trio
    await drain(a)
    await until(lambda: a.node.state == "drained")
    await until(lambda: peer_states(b)["900a"] == "drained")
    status, said = await a.ask("/v1/undrain", "POST")
    assert (status, said) == (200, {"name": "900a", "state": "serving"})
    one, two = await region.connect(a), await region.connect(b)
    await until(lambda: one.key in b.node.relay._forwarders)
    await two.send(one, b"welcome back")
    await one.told(Received(two.key, b"welcome back"))
    await until(lambda: peer_states(b)["900a"] == "serving")


async def test_undrain_in_the_middle(region, trio, monkeypatch):
    """Whoever is still there stays."""
    monkeypatch.setattr(goodbye, "PACE", 1)
    a, *_ = trio
    people = [await region.connect(a) for _ in range(4)]
    await drain(a)
    await people[0].until(lambda: any(person.ended for person in people))
    await a.ask("/v1/undrain", "POST")
    stayed = [person for person in people if not person.ended]
    assert len(stayed) >= 2
    for person in stayed:
        await person.client.ping()
    assert a.node.state == "serving"


async def test_two_drains_at_once(region, trio):
    """The second changes nothing."""
    a, *_ = trio
    await drain(a)
    assert (await drain(a))[0] == 200
    await until(lambda: a.node.state == "drained")


async def test_node_that_stops(region, trio, caplog):
    """Its siblings know at once, and its clients are told to come back."""
    a, b, _ = trio
    person = await region.connect(a)
    a.node.stop()
    await until(lambda: b.node.region.siblings_serving == 1)
    await person.until(lambda: person.ended)
    assert Health("this relay is restarting") in person.messages
    assert Restarting(0.0, 0.5) in person.messages
    await until(lambda: b.ups == {"900c"})
    assert "link 900a: lost" in caplog.text
