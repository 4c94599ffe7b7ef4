"""What operators wish for in the registry, and nodes follow: drains, and clients."""

import asyncio

import pytest

from derpmesh.membership.model import Drain
from derpmesh.membership.snapshot import Snapshots
from derpnode.client import ClientError, DialFailed, Health, Received
from tests.mesh.region import REGION, cluster, fresh_key, measured, until
from tests.mesh.stewards import FileSteward, etcd_steward, running_etcd


IN_FORCE = 2.0
"""Seconds until a rule for a client is in force on every node."""

CUT = 5.0
"""Seconds until a client that is denied is disconnected."""


@pytest.fixture
async def region():
    """A region without nodes."""
    async with cluster() as found:
        yield found


@pytest.fixture(params=["file", pytest.param("etcd", marks=[pytest.mark.interop])])
async def steward(request, region, tmp_path):
    """Somebody who keeps the registry of a region."""
    if request.param == "file":
        yield FileSteward(region)
        return
    with running_etcd(tmp_path) as etcd:
        async with etcd_steward(region, etcd) as keeping:
            yield keeping


async def started(region, steward, letters: str, **more: dict[str, object]):
    """Start nodes that are linked to each other, and know that all serve."""
    nodes = [steward.place(letter, **more) for letter in letters]
    await steward.list(*nodes)
    for node in nodes:
        await region.start(node)
    await region.linked(*nodes)
    others = len(nodes) - 1
    await until(
        lambda: all(node.node.region.siblings_serving == others for node in nodes)
    )
    return nodes


async def test_node_drains_as_it_is_wished(region, steward):
    """And takes clients again when it is not wished any more."""
    a, b, _ = await started(region, steward, "abc")
    person = await region.connect(a)
    with measured("a drain that is wished for in the registry") as lasted:
        await steward.drain(a, Drain())
        await until(lambda: a.node.state == "drained")
        assert lasted() < CUT
    await person.until(lambda: person.ended)
    assert Health("this relay is in maintenance") in person.messages
    with pytest.raises(DialFailed):
        await region.connect(a)
    assert a.node.region.notes() == []
    assert a.node.region.membership()["drains"] == ["900a"]
    assert b.node.state == "serving"
    await steward.drain(a, None)
    await until(lambda: a.node.state == "serving")
    await region.connect(a)


async def test_last_node_waits_for_another(region, steward):
    """It says so, and drains as soon as it may."""
    a, b = await started(region, steward, "ab")
    await b.stop()
    await until(lambda: a.node.region.siblings_serving == 0)
    await steward.drain(a, Drain())
    await until(lambda: any("a drain is wished" in n for n in a.node.region.notes()))
    assert a.node.state == "serving"
    again = steward.place("b")
    again.host = b.host
    registry = b.config.registry.model_dump(mode="json", exclude_none=True)
    again.configure(registry=registry)
    await region.start(again)
    await until(lambda: a.node.state == "drained")
    assert a.node.region.notes() == []


async def test_node_that_restarts_while_it_is_to_be_drained(region, steward):
    """It takes no client for a moment, not even before it hears of the registry."""
    a, b = await started(region, steward, "ab")
    await steward.drain(a, Drain())
    await until(lambda: a.node.state == "drained")
    await until(lambda: kept(a).drains == {"900a": Drain()})
    registry = a.config.registry.model_dump(mode="json", exclude_none=True)
    await a.stop()
    again = region.again(a)
    again.configure(registry=registry)
    await again.start(region.spawn, state="drained")
    await until(lambda: again.ups == {"900b"})
    assert await again.refuses()
    b.node.region._links._links["900a"].retry += 60.0  # it had no answer for long
    await steward.drain(again, None)
    await until(lambda: again.node.state == "serving")
    with measured("links to a node that was drained when it started") as lasted:
        await region.linked(again, b)
        assert lasted() < 3.0


async def test_drain_that_is_over_when_the_node_is_back(region, steward):
    """It starts as it was, and takes clients once it hears of that."""
    a, b = await started(region, steward, "ab")
    await steward.drain(a, Drain())
    await until(lambda: a.node.state == "drained")
    await until(lambda: kept(a).drains == {"900a": Drain()})
    registry = a.config.registry.model_dump(mode="json", exclude_none=True)
    await a.stop()
    await steward.drain(a, None)
    again = region.again(a)
    again.configure(registry=registry)
    await again.start(region.spawn)
    await region.linked(again, b)
    assert again.node.region.notes() == []


@pytest.mark.interop
async def test_node_that_is_taken_out(region, tmp_path):
    """It stays empty: nobody forwards to it, and it took clients again.

    One that served is emptied, and one that is listed again takes clients.
    """
    with running_etcd(tmp_path) as etcd:
        async with etcd_steward(region, etcd) as steward:
            a, b, c = await started(region, steward, "abc")
            person = await region.connect(b)
            await steward.drain(a, Drain())
            await until(lambda: a.node.state == "drained")
            for node in (a, b):
                await steward.operator.remove(node.name)
            await until(lambda: c.ups == set())
            await person.until(lambda: person.ended)
            await until(lambda: b.node.state == "drained")
            assert a.node.state == "drained"
            assert [await node.refuses() for node in (a, b, c)] == [True, True, False]
            await steward.operator.add(a.member)
            await until(lambda: a.node.state == "serving")
            await region.linked(a, c)


async def test_told_otherwise_by_its_admin(region, steward):
    """That holds until the wish is another, and is noted."""
    a, _ = await started(region, steward, "ab")
    await steward.drain(a, Drain())
    await until(lambda: a.node.state == "drained")
    assert (await a.ask("/v1/undrain", "POST"))[0] == 200
    assert a.node.state == "serving"
    assert a.node.region.notes() == [
        "region: the registry wishes that it is drained, and it was told otherwise"
    ]
    await steward.drain(a, None)
    await until(lambda: a.node.region.notes() == [])
    assert a.node.state == "serving"
    assert (await a.ask("/v1/drain", "POST"))[0] == 200
    assert a.node.region.notes() == [
        "region: it is drained, and the registry does not wish for that"
    ]


async def test_client_is_denied(region, steward):
    """S4: cut wherever it is, and it does not come back, on any node."""
    nodes = await started(region, steward, "abc")
    private, other = fresh_key(), fresh_key()
    person = await region.connect(nodes[0], private)
    bystander = await region.connect(nodes[0], other)
    await steward.rule(person.key, "deny")
    with measured("a denied client is cut") as lasted:
        await person.until(lambda: person.ended)
        assert lasted() < CUT
    await until(lambda: all(denied(node) == 1 for node in nodes), within=IN_FORCE)
    for node in nodes:
        with pytest.raises(ClientError):
            await region.connect(node, private)
    assert bystander.ended == ""
    await steward.rule(person.key, "none")
    await until(lambda: all(denied(node) == 0 for node in nodes), within=IN_FORCE)
    await region.connect(nodes[1], private)


async def test_client_is_let_in_by_name(region, steward):
    """With no other source that knows of it; until its name is off the list."""
    nodes = await started(region, steward, "ab", admission={"mode": "any"})
    private = fresh_key()
    with pytest.raises(ClientError):
        await region.connect(nodes[0], private)
    await steward.rule(private.public, "allow")
    with measured("a rule for a client is in force on every node"):
        await until(lambda: all(allowed(node) == 1 for node in nodes), within=IN_FORCE)
    near = await region.connect(nodes[0], private)
    second = fresh_key()
    await steward.rule(second.public, "allow")
    await until(lambda: all(allowed(node) == 2 for node in nodes), within=IN_FORCE)
    far = await region.connect(nodes[1], second)
    await until(lambda: far.key in nodes[0].node.relay._forwarders)
    await near.send(far, b"hello")
    await far.told(Received(near.key, b"hello"))
    await steward.rule(private.public, "none")
    async with asyncio.timeout(CUT):
        await near.until(lambda: near.ended)
    assert far.ended == ""


def kept(node):
    """What a node has on its disk."""
    return Snapshots(node.folder, REGION.id).load()


def denied(node) -> int:
    """How many clients a node keeps out by name."""
    return node.node.region.membership()["clients"]["deny"]


def allowed(node) -> int:
    """How many clients a node lets in by name."""
    return node.node.region.membership()["clients"]["allow"]
