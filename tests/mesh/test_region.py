"""Real nodes in a region: they join, clients reach each other, members come and go."""

import asyncio
import itertools
import logging
import socket
import time

import pytest

from derpmesh.link.peering import Peering
from derpnode import node as node_module
from derpnode.client import PeerGone, Received
from derpnode.config import Address
from derpnode.plane.contract import PlaneLimits
from derpnode.relay.presence import PIECE
from derpnode.relay.relay import Client
from derpnode.wire.frames import DISCO_MAGIC
from derpnode.wire.keys import NodeKey, identity_json
from derpnode.wire.payloads import GoneReason, peer_gone
from tests.load.scale import sized
from tests.mesh.link.conversation import US
from tests.mesh.link.relays import FakeRelay, announcing, flapping, stay_silent
from tests.mesh.membership.registries import region_text
from tests.mesh.region import (
    DERP_PORT,
    MESH_KEY,
    OTHER_MESH_KEY,
    REGION,
    Wire,
    cluster,
    fresh_key,
    measured,
    routes,
    until,
)


logger = logging.getLogger(__name__)

DISCO = DISCO_MAGIC.ljust(100, b"?")


@pytest.fixture
async def region():
    """A region without nodes."""
    async with cluster() as found:
        yield found


@pytest.fixture
async def trio(region):
    """Three nodes that are linked to each other."""
    nodes = [region.place(letter) for letter in "abc"]
    region.write(*nodes)
    for node in nodes:
        await region.start(node)
    await region.linked(*nodes)
    return nodes


# Joining.


async def test_nodes_join(region):
    """M7: the last one needs no more than a moment."""
    a, b, c = (region.place(letter) for letter in "abc")
    region.write(a, b, c)
    for node in (a, b):
        await region.start(node)
    await region.linked(a, b)
    with measured("join of the third node, its start included") as lasted:
        await region.start(c)
        await region.linked(a, b, c)
        assert lasted() < 3.0
    links = await a.links()
    assert list(links) == ["900b", "900c"]
    for link in links.values():
        assert link["state"] == "up"
        assert link["peer_state"] == "serving"
        assert link["round_trip"] < 1.0
        assert link["error"] == ""


async def test_what_a_node_knows_of_its_region(trio):
    """The members, in the order of the map, and where that is from."""
    _, found = await trio[0].ask("/v1/membership")
    assert (found["source"], found["revision"]) == ("file", 1)
    assert found["region"] == REGION.plain()
    assert [one["name"] for one in found["members"]] == ["900a", "900b", "900c"]
    assert found["members"][1]["pin"] == trio[1].pin


async def test_node_that_is_as_recorded_says_nothing(trio, caplog):
    """Of what it is itself."""
    assert [one for one in caplog.messages if one.startswith("region: 900")] == []


async def test_node_that_is_not_as_recorded_says_so(region, caplog):
    """Each field that differs, with both values; the region too."""
    a = region.place("a")
    wrong = a.member.model_copy(update={"derp_port": 443})
    other = REGION.model_copy(update={"id": 901})
    region.edit(region_text(other, wrong))
    await region.start(a)
    await until(lambda: a.node.region.membership()["members"])
    assert [one for one in caplog.messages if "is recorded" in one] == [
        "region: 900a is recorded with DERPPort unset, but has 4433",
        "region: 900a is recorded with RegionID 901, but has 900",
    ]
    assert a.node.region.notes() == [
        one for one in caplog.messages if "is recorded" in one
    ]


async def test_node_that_is_not_recorded_says_so(region, caplog):
    """Others will not dial it; it dials them."""
    a, b = region.place("a"), region.place("b")
    region.write(b)
    await region.start(a)
    await region.start(b)
    await until(lambda: a.ups == {"900b"})
    assert b.states == {}
    assert "region: 900a is not in it; nobody will dial this node" in caplog.messages


def with_peers(node, *peers, **more) -> list[str]:
    """Name others under `mesh.peers` of a node; give their URLs."""
    found = [{"url": f"https://{peer.host}:4433", "pin": peer.pin} for peer in peers]
    key_file = str(node.folder / "mesh.key")
    node.configure(mesh={"key_file": key_file, "peers": found}, **more)
    return [peer["url"] for peer in found]


async def test_static_peers_without_a_registry(region):
    """They are all there is to know."""
    a, b = region.place("a"), region.place("b")
    [to_b] = with_peers(a, b, registry={})
    [to_a] = with_peers(b, a, registry={})
    for node in (a, b):
        await region.start(node)
    await until(lambda: (a.ups, b.ups) == ({to_b}, {to_a}))
    assert await a.ask("/v1/membership") == (200, {"source": "none", "members": []})
    one, two = await region.connect(a), await region.connect(b)
    await until(lambda: two.key in routes(a))
    await one.send(two, b"hello")
    await two.told(Received(one.key, b"hello"))


async def test_static_peers_are_linked_while_the_registry_is_away(region, caplog):
    """A broken file at the start must not cost them. Regression: it did."""
    a, b = region.place("a"), region.place("b")
    [to_b] = with_peers(a, b)
    region.edit("nodes: [")
    await region.start(b)
    await region.start(a)
    await until(lambda: a.ups == {to_b})
    assert a.node.region.siblings_serving == 1
    region.write(a, b)
    await until(lambda: a.ups == {to_b, "900b"})
    assert len([one for one in caplog.messages if "not YAML" in one]) == 2


# Packets.


async def test_packets_over_every_pair(region, trio):
    """Both ways, of every size that counts, in order; also on one node."""
    people = [await region.connect(node) for node in trio]
    sizes = (0, 1, 1200, 65_536)
    for number, (sender, receiver) in enumerate(itertools.product(people, people)):
        sent = [bytes([number]) * size for size in sizes]
        for data in sent:
            await sender.send(receiver, data)
        await receiver.until(lambda r=receiver, s=sender: len(r.packets(s)) == 4)
        assert receiver.packets(sender) == sent


async def test_new_client_is_reached_at_once(region, trio):
    """A prober waits a tenth of a second; see protocol.md 5.8."""
    sender = await region.connect(trio[0])
    slowest = 0.0
    for node in trio[1:]:
        began = time.monotonic()
        receiver = await region.connect(node)
        logged_in = time.monotonic()
        await until(lambda k=receiver.key: k in routes(trio[0]))
        slowest = max(slowest, time.monotonic() - logged_in)
        await sender.send(receiver, b"welcome")
        await receiver.told(Received(sender.key, b"welcome"))
        assert time.monotonic() - began < 5.0
    assert slowest < 0.1


async def test_client_that_leaves_another_node(region, trio):
    """Who received from it is told, on every node; who asks is told, too."""
    a, b, _ = trio
    near, far = await region.connect(a), await region.connect(b)
    await far.send(near, b"hello")
    await near.told(Received(far.key, b"hello"))
    await far.client.stream.close()
    await near.told(PeerGone(far.key, GoneReason.DISCONNECTED))
    await near.client.send(far.key, DISCO)
    await near.told(PeerGone(far.key, GoneReason.NOT_HERE))


async def test_one_of_two_connections_ends(region, trio):
    """M6: of a key on one node; it is reached until the last one ends.

    Regression of derper's: tailscale#13566.
    """
    a, b, _ = trio
    private = fresh_key()
    near = await region.connect(a)
    twins = [await region.connect(b, private) for _ in range(2)]
    for twin in twins:
        await twin.send(near, b"hello")
    await near.until(lambda: len(near.packets(twins[0])) == 2)
    for left, stays in ((twins[1], twins[0]), (twins[0], None)):
        await left.client.stream.close()
        await until(lambda n=stays is not None: len(held(b, twins[0])) == n)
        if stays is not None:
            await reached(stays, [near])
            assert near.gone() == []
    await near.told(PeerGone(twins[0].key, GoneReason.DISCONNECTED))
    await near.client.send(twins[0].key, DISCO)
    await near.told(PeerGone(twins[0].key, GoneReason.NOT_HERE))
    await until(lambda: all(is_consistent(node) for node in trio))


async def test_one_key_on_two_nodes_falls_back(region, trio):
    """Local wins, then the mesh, and only then is it gone."""
    a, b, _ = trio
    private = fresh_key()
    near = await region.connect(a)
    here, there = await region.connect(a, private), await region.connect(b, private)
    await until(lambda: here.key in routes(a))
    await near.send(here, b"local")
    await here.told(Received(near.key, b"local"))
    assert there.packets() == []
    await here.send(near, b"from here")
    await here.client.ping()
    await here.client.stream.close()
    await reached(there, [near])
    assert near.gone() == []
    await there.client.stream.close()
    await near.told(PeerGone(here.key, GoneReason.DISCONNECTED))


async def test_mesh_of_one_way(region):
    """Packets go where the link goes, and the other side knows of nobody."""
    a, b = region.place("a"), region.place("b")
    [to_b] = with_peers(a, b, registry={})
    with_peers(b, registry={})
    for node in (a, b):
        await region.start(node)
    await until(lambda: a.ups == {to_b})
    one, two = await region.connect(a), await region.connect(b)
    await until(lambda: two.key in routes(a))
    await one.send(two, b"this way")
    await two.told(Received(one.key, b"this way"))
    await two.client.send(one.key, DISCO)
    await two.told(PeerGone(one.key, GoneReason.NOT_HERE))
    assert (b.ups, routes(b), one.packets()) == (set(), set(), [])


async def test_peer_that_says_a_client_is_not_here(region):
    """Its word counts: the next packet has no way there."""
    a = region.place("a")
    (a.folder / "derper.key").write_text(identity_json(US))
    (a.folder / "derper.key").chmod(0o600)
    nobody = fresh_key().public
    told = asyncio.Event()

    async def deny(reader, writer) -> None:
        await told.wait()
        writer.write(peer_gone(nobody, GoneReason.NOT_HERE))
        await stay_silent(reader, writer)

    async with FakeRelay(announcing(nobody, then=deny)).running() as peer:
        key_file = str(a.folder / "mesh.key")
        url = f"http://127.0.0.1:{peer.port}"
        a.configure(mesh={"key_file": key_file, "peers": [{"url": url}]}, registry={})
        await region.start(a)
        await until(lambda: routes(a) == {nobody})
        sender = await region.connect(a)
        await sender.client.send(nobody, DISCO)
        await sender.client.ping()
        assert sender.gone() == []
        told.set()
        await until(lambda: routes(a) == set())
        await sender.client.send(nobody, DISCO)
        await sender.told(PeerGone(nobody, GoneReason.NOT_HERE))
        assert a.states == {url: "up"}


async def test_one_key_on_two_nodes(region, trio):
    """M6: both live, each node has its own, and nobody is cut."""
    a, b, c = trio
    private = fresh_key()
    one, two = await region.connect(a, private), await region.connect(b, private)
    people = [await region.connect(node) for node in trio]
    await until(lambda: c.node.relay._forwarders.count(one.key) == 2)
    await until(lambda: not a.node.relay._questioned and not b.node.relay._questioned)
    for person in people:
        await person.send(two, b"to you")
    await one.told(Received(people[0].key, b"to you"))
    await two.told(Received(people[1].key, b"to you"))
    await two.told(Received(people[2].key, b"to you"))
    assert (one.ended, two.ended) == ("", "")
    assert a.node.relay.counters.ghosts == b.node.relay.counters.ghosts == 0


# Roaming.


async def test_client_that_roams_without_a_word(region, trio):
    """It is reached in 2 s from every node; by Go's, in 15.6 s."""
    a, b, _ = trio
    private = fresh_key()
    senders = [await region.connect(node) for node in trio]
    ghost = await region.connect(a, private)
    for sender in senders:
        await sender.send(ghost, b"before")
        await ghost.told(Received(sender.key, b"before"))
    ghost.freeze()
    with measured("a client that roamed is reached from every node") as lasted:
        moved = await region.connect(b, private)
        await reached(moved, senders)
        assert lasted() < 2.0
    assert a.node.relay.counters.ghosts == 1
    await ghost.until(lambda: ghost.ended)
    assert all(moved.key not in sender.gone() for sender in senders)


async def reached(receiver, senders) -> None:
    """Send until a packet of each has arrived."""
    async with asyncio.timeout(10.0):
        while not all(receiver.packets(sender) for sender in senders):
            for sender in senders:
                await sender.send(receiver, b"after")
            await asyncio.sleep(0.02)


HOPS = sized(1_000, 200)


async def test_client_that_hops(region, trio):
    """M5: with no word to those it leaves; it is where it came last, only there."""
    private = fresh_key()
    senders = [await region.connect(node) for node in trio]
    for number in range(HOPS):
        last = await region.connect(trio[number % 2], private)
        last.freeze()
    last.client.stream.answers_pings = True
    home = trio[(HOPS - 1) % 2]
    with measured(f"after {HOPS} hops the client is reached from every node"):
        await reached(last, senders)
    others = [node for node in trio if node is not home]
    await until(lambda: all(not held(node, last) for node in others))
    await until(lambda: len(held(home, last)) == 1)
    assert last.ended == ""
    await until(lambda: all(is_consistent(node) for node in trio))


async def test_packets_to_a_client_that_hops(region, trio):
    """M5: there and back in 50 ms; from elsewhere one packet in a hundred is lost.

    It leaves a node once it has come to the other, and has read what there was. Who
    sends from that node loses what is on its way when the connection closes.
    """
    private = fresh_key()
    senders = [await region.connect(node) for node in trio]
    homes = [await region.connect(trio[0], private)]
    await until(lambda: all(homes[0].key in routes(node) for node in trio[1:]))
    numbers = itertools.count()

    async def send() -> None:
        while True:
            number = next(numbers)
            for sender in senders:
                await sender.send(homes[0], number.to_bytes(4))
            await asyncio.sleep(0.005)

    job = region.spawn(send())
    for number in range(1, HOPS + 1):
        homes.append(await region.connect(trio[number % 2], private))
        await homes[-2].client.ping()
        await homes[-2].client.stream.close()
        await asyncio.sleep(0.015)
    job.cancel()
    for sender in senders:
        await sender.client.ping()
    await until(lambda: all(is_consistent(node) for node in trio))
    sent = next(numbers)
    lost = [
        sent - len({data for home in homes for data in home.packets(sender)})
        for sender in senders
    ]
    logger.info("measured: %d hops: %s of %d packets lost", HOPS, lost, sent)
    assert sent > HOPS
    assert lost[2] <= sent / 100


def is_consistent(node) -> bool:
    """Whether a node knows who is here, and others by its links, and asks nobody."""
    relay, region = node.node.relay, node.node.region
    here = {client.key for client in relay.clients()}
    names = {link.connection for link in region._links._links.values()}
    told = {link for links in relay._forwarders._links.values() for link in links}
    return (
        relay._keys.keys() == here
        and told <= names
        and relay.known_keys == len(here | routes(node))
        and not relay._questioned
    )


def held(node, person) -> list[int]:
    """The connections that a node has of a client."""
    return node.node.relay.connections_of(person.key)


# Members come and go.


async def test_fourth_node(region, trio, caplog):
    """M7: it is added to the file, and taken out again; nobody else notices."""
    a, b, c = trio
    d = region.place("d")
    await region.start(d)
    await until(lambda: d.ups == {"900a", "900b", "900c"})
    people = [await region.connect(node) for node in trio]
    connections = {node.name: link_connections(node) for node in trio}
    region.write(a, b, c, d)
    with measured("links to a node that was added to the file") as lasted:
        await region.linked(a, b, c, d)
        assert lasted() < 3.0
    newcomer = await region.connect(d)
    await reached(newcomer, people)
    for person in people:
        await newcomer.send(person, b"hello")
        await person.told(Received(newcomer.key, b"hello"))
    region.write(a, b, c)
    with measured("links to a node that was taken out of the file") as lasted:
        await until(lambda: all("900d" not in node.states for node in trio))
        assert lasted() < 3.0
    for person in people:
        await person.told(PeerGone(newcomer.key, GoneReason.DISCONNECTED))
        assert person.ended == ""
    for node in trio:
        assert link_connections(node) == connections[node.name]
    assert [one for one in caplog.messages if "lost" in one] == []


def link_connections(node) -> dict[str, object]:
    """The connections of a node's links, which are others once one was lost."""
    return {
        name: link.connection
        for name, link in node.node.region._links._links.items()
        if name != "900d"
    }


@pytest.mark.parametrize(
    "broken",
    ["", "nodes: [", "region: {}\nnodes: [{name: 900a, host: a, weight: 1}]"],
    ids=["empty", "no YAML", "unknown key"],
)
async def test_broken_edit_changes_nothing(region, trio, caplog, broken):
    """It is said once, and a good file is taken up soon after."""
    connections = [link_connections(node) for node in trio]
    region.edit(broken)
    warned = "the last good one stays in force"
    await until(lambda: sum(warned in one for one in caplog.messages) == 3)
    await asyncio.sleep(1.0)  # nothing is to happen, and nobody tells that
    assert sum(warned in one for one in caplog.messages) == 3
    assert [link_connections(node) for node in trio] == connections
    for node in trio:
        [note] = node.node.region.notes()
        assert note.startswith("registry: ")
        assert note.endswith(warned)
    region.write(*trio[:2])
    with measured("a file that was mended is in force") as lasted:
        await until(lambda: trio[0].states.keys() == {"900b"})
        assert lasted() < 3.0
    assert trio[0].node.region.notes() == []


# What goes wrong with a peer.


async def test_wrong_mesh_key(region, caplog):
    """M12: it is named on both sides; the others are linked."""
    a, b, c = (region.place(letter) for letter in "abc")
    c.configure(OTHER_MESH_KEY)
    region.write(a, b, c)
    for node in (a, b, c):
        await region.start(node)
    await region.linked(a, b)
    doubt = "is the mesh key the same there?"
    for node, peer in ((a, "900c"), (b, "900c"), (c, "900a"), (c, "900b")):
        await until(lambda n=node, p=peer: errors(n)[p].endswith(doubt))
        found = (await node.links())[peer]
        assert found["error"].endswith(doubt)
        assert found["state"] in {"waiting", "connecting"}
        assert found["keys"] == 0
    assert errors(a)["900b"] == ""
    assert a.node.region.siblings_serving == 1
    assert MESH_KEY.text() not in caplog.text
    assert "link 900c: up" not in caplog.messages


def errors(node) -> dict[str, str]:
    """What each link of a node says is wrong."""
    return {str(link["peer"]): str(link["error"]) for link in node.node.region.links()}


async def test_wrong_pin(region):
    """As after a certificate that was made anew; both pins are named."""
    a, b = region.place("a"), region.place("b")
    old = f"sha256-raw:{'0' * 64}"
    wrong = b.member.model_copy(update={"pin": old})
    region.edit(region_text(REGION, a.member, wrong))
    for node in (a, b):
        await region.start(node)
    await until(lambda: errors(a).get("900b", "").startswith("certificate"))
    assert (await a.links())["900b"]["error"] == (
        f"certificate is {b.pin}, pin is {old}"
    )
    await until(lambda: b.ups == {"900a"})


async def test_same_server_key_on_two_nodes(region):
    """Each takes the other for itself, and says so; the third has links to both."""
    a, b, c = (region.place(letter) for letter in "abc")
    region.write(a, b, c)
    await region.start(a)
    b.copy_identity(a)
    for node in (b, c):
        await region.start(node)
    await until(lambda: a.states.get("900b") == b.states.get("900a") == "self")
    await until(lambda: c.ups == {"900a", "900b"})
    found = (await a.links())["900b"]
    assert (found["state"], found["error"]) == ("self", "it is this node")


async def test_node_that_is_killed(region):
    """M1: its peers drop its routes in a second, and say so; it comes back alone."""
    a, b = region.place("a"), region.place("b")
    victim = region.child("c")
    region.write(a, b, victim)
    for place in (a, b, victim):
        await region.start(place)
    await until(lambda: a.ups == {"900b", "900c"} and b.ups == {"900a", "900c"})
    senders = [await region.connect(node) for node in (a, b)]
    lost = await region.connect(victim)
    for sender in senders:
        await lost.send(sender, b"hello")
        await sender.told(Received(lost.key, b"hello"))
    with measured("routes over a node that was killed are dropped") as lasted:
        victim.kill()
        await until(lambda: not any(lost.key in routes(node) for node in (a, b)))
        assert lasted() < 1.0
    for sender in senders:
        await sender.told(PeerGone(lost.key, GoneReason.DISCONNECTED))
        await sender.client.send(lost.key, DISCO)
        await sender.told(PeerGone(lost.key, GoneReason.NOT_HERE))
    assert a.ups == {"900b"}
    assert errors(a)["900c"]
    await region.start(region.again(victim))
    with measured("links to a node that was started again") as lasted:
        await until(lambda: "900c" in a.ups & b.ups)
        assert lasted() < 3.0


async def test_link_that_goes_dark(region, monkeypatch, caplog):
    """M3: no word from the kernel, but pings tell. It is back soon after."""
    monkeypatch.setattr("derpmesh.link.peering.PING_INTERVAL", 0.2)
    a, b = region.place("a"), region.place("b")
    async with Wire(b).laid() as wire:
        way = Address(wire.host, DERP_PORT)
        other = b.member.model_copy(update={"dial": way})
        region.edit(region_text(REGION, a.member, other))
        for node in (a, b):
            await region.start(node)
        await region.linked(a, b)
        sender, receiver = await region.connect(a), await region.connect(b)
        await receiver.send(sender, b"hello")
        await sender.told(Received(receiver.key, b"hello"))
        await until(lambda: receiver.key in routes(a))
        with measured("a dark link is given up, at pings of 0.2 s") as lasted:
            wire.darken()
            await until(lambda: receiver.key not in routes(a))
            assert lasted() < 3.0
        await sender.told(PeerGone(receiver.key, GoneReason.DISCONNECTED))
        assert errors(a)["900b"] == "no answer to pings for 0.52 s"
        wire.light()
        with measured("a link is back after it was dark") as lasted:
            await reached(receiver, [sender])
            assert lasted() < 5.0
        assert sum("lost" in one for one in caplog.messages) == 1


async def test_peer_that_flaps(region):
    """M13: ten thousand changes a second, of keys that nobody needs; nobody suffers."""
    a, b = region.place("a"), region.place("b")
    (a.folder / "derper.key").write_text(identity_json(US))
    (a.folder / "derper.key").chmod(0o600)
    async with FakeRelay(flapping(rate=10_000, seconds=2.0)).running() as peer:
        key_file = str(a.folder / "mesh.key")
        url = f"http://127.0.0.1:{peer.port}"
        a.configure(mesh={"key_file": key_file, "peers": [{"url": url}]})
        region.write(a, b)
        for node in (b, a):
            await region.start(node)
        one, two = await region.connect(a), await region.connect(b)
        await until(lambda: a.ups == {url, "900b"})
        slowest = 0.0
        while a.ups == {url, "900b"}:
            slowest = max(slowest, await one.client.ping())
            await reached(two, [one])
            await asyncio.sleep(0.01)
        logger.info("measured: slowest ping beside a flapping peer: %.3f s", slowest)
        assert slowest < 0.5
    assert two.key in routes(a)
    assert routes(a) <= {two.key, a.node.server_key}


# Presence in bulk.


CROWD = 5_000


def crowd(node, count: int = CROWD) -> list[NodeKey]:
    """Let a node believe in many clients."""
    keys = [NodeKey(number.to_bytes(32)) for number in range(1, count + 1)]
    for number, key in enumerate(keys):
        node.node.relay.register(Client(connection=10**9 + number, key=key))
    return keys


def disperse(node, count: int = CROWD) -> None:
    """Let them leave."""
    for number in range(count):
        node.node.relay.unregister(10**9 + number)


async def test_flood_comes_in_pieces(region, trio, monkeypatch):
    """All of it is the flood, the first change after it is none."""
    a, b, _ = trio
    keys = crowd(b)
    batches = b.node.relay.presence.batches
    heard = []
    announced = a.node.relay.announced

    def note(key, link, now, *, in_flood):
        heard.append((key, in_flood))
        announced(key, link, now, in_flood=in_flood)

    monkeypatch.setattr(a.node.relay, "announced", note)
    with measured(f"flood of {CROWD} clients to a link that was cut"):
        b.node.plane.close(watcher_of(b, a), "cut by a test", abort=True)
        await until(lambda: {key for key, _ in heard} >= set(keys))
    assert CROWD > PIECE
    assert b.node.relay.presence.batches - batches >= 2
    flags = dict(heard)
    assert all(flags[key] for key in keys)
    await until(lambda: not peering(a, "900b")._in_flood)
    client = await region.connect(b)
    await until(lambda: (client.key, False) in heard)


def watcher_of(node, peer):
    """The connection by which a peer watches a node."""
    [found] = node.node.relay.connections_of(peer.node.server_key)
    return found


def peering(node, name: str) -> Peering:
    """What one link of a node is made of, while it has a connection."""
    found = node.node.region._links._links[name]._peering
    assert found is not None
    return found


async def test_watcher_that_never_reads(region, monkeypatch):
    """It costs one entry a client, and is cut; others are told everything meanwhile."""
    limits = PlaneLimits(mesh_write_timeout=0.5)
    monkeypatch.setattr(node_module, "_plane_limits", lambda _config: limits)
    a, b = region.place("a"), region.place("b")
    region.write(a, b)
    for node in (a, b):
        await region.start(node)
    await region.linked(a, b)
    deaf = await region.connect(b, mesh_key=MESH_KEY)
    await deaf.client.watch()
    presence = b.node.relay.presence
    connection = next(iter(b.node.relay.connections_of(deaf.key)))
    await until(lambda: connection in presence)
    deaf.client.stream._transport.pause_reading()
    sock = b.node.plane._by_id[connection].sock
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)  # as from afar
    owed = []
    with measured("a watcher that does not read is cut"):
        async with asyncio.timeout(30.0):
            while connection in presence:
                crowd(b, 1000)
                owed.append(len(presence._watchers[connection]))
                await asyncio.sleep(0)
                disperse(b, 1000)
                await asyncio.sleep(0)
    logger.info("measured: entries owed to it at most: %d", max(owed))
    assert 0 < max(owed) <= 1000 + 10
    assert b.node.plane.counters.write_timeouts == 1
    client = await region.connect(b)
    await until(lambda: client.key in routes(a))
    assert a.ups == {"900b"}
