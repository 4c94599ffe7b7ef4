"""M12: the mesh key of a region is replaced while everybody goes on."""

import asyncio
import itertools
import logging

import pytest

from derpmesh.link.link import Link
from derpnode.wire.keys import MeshKey
from derpnode.wire.meshring import MeshRing
from tests.mesh.region import (
    MESH_KEY,
    OTHER_MESH_KEY,
    Person,
    cluster,
    measured,
    routes,
    until,
)


logger = logging.getLogger(__name__)

NEW = OTHER_MESH_KEY
THIRD = MeshKey(b"\x77" * 32)
PAUSE = 0.005
"""Seconds between two packets of a pair."""


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


async def step(node, phase: str, **more: str) -> None:
    """Take a step of a rotation, as operators do."""
    status, found = await node.ask("/v1/mesh-key", "POST", {"phase": phase, **more})
    assert status == 200, found
    assert found["mesh_keys"] == node.node.mesh_keys.fingerprints()


async def renewed(node, key: MeshKey) -> None:
    """Wait until all links of a node are up, and prove this key."""
    await until(
        lambda: all(
            (link["state"], link["mesh_key"], link["renewing"])
            == ("up", key.fingerprint(), False)
            for link in node.node.region.links()
        )
    )


def attempts(nodes) -> list[int]:
    """How often each link was dialled."""
    return [link.attempts for node in nodes for link in links_of(node)]


def links_of(node) -> list[Link]:
    """The links of a node."""
    return list(node.node.region._links._links.values())


class Traffic:
    """Numbered packets from every client to every other, without a pause to speak of.

    Args:
        people: The clients, each on another node.
    """

    def __init__(self, people: list[Person]) -> None:
        self._pairs = list(itertools.permutations(people, 2))
        self.sent = 0
        """How many have left, in each pair."""

        self._stop = asyncio.Event()

    async def run(self) -> None:
        """Send until told to stop."""
        while not self._stop.is_set():
            for one, other in self._pairs:
                await one.send(other, self.sent.to_bytes(8))
            self.sent += 1
            await asyncio.sleep(PAUSE)

    async def further(self, count: int = 10) -> None:
        """Wait until so many more have left."""
        goal = self.sent + count
        await until(lambda: self.sent >= goal)

    async def end(self) -> list[list[int]]:
        """Stop; give the numbers that were lost, of each pair."""
        self._stop.set()
        last = (self.sent - 1).to_bytes(8)
        for one, other in self._pairs:
            await other.until(lambda o=one, p=other: last in p.packets(o))
        return [self._lost(one, other) for one, other in self._pairs]

    def _lost(self, one: Person, other: Person) -> list[int]:
        came = [int.from_bytes(data) for data in other.packets(one)]
        assert came == sorted(set(came))
        return sorted(set(range(self.sent)) - set(came))


async def crowd(region, nodes) -> list[Person]:
    """Log a client in at each node, and wait until all can reach all."""
    people = [await region.connect(node) for node in nodes]
    for node, own in zip(nodes, people, strict=True):
        others = {person.key for person in people if person is not own}
        await until(lambda n=node, o=others: routes(n) >= o)
    return people


async def test_rotation_under_traffic(region, trio, caplog):
    """Each link is dialled again once; nothing else costs a packet."""
    caplog.set_level(logging.INFO)
    traffic = Traffic(await crowd(region, trio))
    before = attempts(trio)
    job = region.spawn(traffic.run())
    await traffic.further()
    for node in trio:
        await step(node, "stage", key=NEW.text())
    await traffic.further()
    assert attempts(trio) == before
    switched = traffic.sent
    with measured("switch of three nodes, one after the other"):
        for node in trio:
            await step(node, "switch")
            await renewed(node, NEW)
            await traffic.further()
    retired = traffic.sent
    for node in trio:
        await step(node, "retire")
    await traffic.further()
    lost = await traffic.end()
    await job
    assert attempts(trio) == [count + 1 for count in before]
    for numbers in lost:  # one gap in each direction, of one reconnect
        assert numbers == list(
            range(min(numbers, default=0), max(numbers, default=-1) + 1)
        )
        assert all(switched <= number < retired for number in numbers)
    logger.info(
        "measured: lost of %d packets in each direction, at one every %.0f ms: %s",
        traffic.sent,
        1000 * PAUSE,
        [len(numbers) for numbers in lost],
    )
    for node in trio:
        assert node.node.mesh_keys.ring == MeshRing(NEW)
        assert node.node.region.notes() == []
    for key in (MESH_KEY, NEW):
        assert key.text() not in caplog.text
    assert [one for one in caplog.messages if "lost: " in one] == []


async def test_rotation_that_is_taken_back(region, trio):
    """After a switch of two of three: the old key is back, and nobody was cut off."""
    a, b, _ = trio
    before = attempts(trio)
    for node in trio:
        await step(node, "stage", key=NEW.text())
    for node in (a, b):
        await step(node, "switch")
        await renewed(node, NEW)
    for node in (a, b):
        await step(node, "back")
        await renewed(node, MESH_KEY)
    for node in trio:
        await step(node, "abort")
    assert attempts(trio) == [
        count + more for count, more in zip(before, [2, 2, 2, 2, 0, 0], strict=True)
    ]
    assert all(node.node.mesh_keys.ring == MeshRing(MESH_KEY) for node in trio)
    await region.linked(*trio)


async def test_rotation_by_files(region, trio):
    """As where nobody but the operator may write: dropped, found, in force."""
    for node in trio:
        file = node.folder / "mesh.key.next"
        file.write_text(NEW.text())
        file.chmod(0o600)
    await until(
        lambda: all(n.node.mesh_keys.ring == MeshRing(MESH_KEY, NEW) for n in trio)
    )
    for node in trio:
        (node.folder / "mesh.key").replace(node.folder / "mesh.key.previous")
        (node.folder / "mesh.key.next").replace(node.folder / "mesh.key")
        node.node.reload()
        await renewed(node, NEW)
    for node in trio:
        (node.folder / "mesh.key.previous").unlink()
    await until(lambda: all(n.node.mesh_keys.ring == MeshRing(NEW) for n in trio))
    await region.linked(*trio)


@pytest.mark.parametrize("phase", ["stage", "switch"])
async def test_node_that_starts_again_meanwhile(region, trio, phase):
    """It is in the phase that it was in, and linked to all."""
    a, b, c = trio
    for node in trio:
        await step(node, "stage", key=NEW.text())
    if phase == "switch":
        await step(c, "switch")
    ring = c.node.mesh_keys.ring
    await c.stop()
    await region.start(c)
    assert c.node.mesh_keys.ring == ring
    await region.linked(a, b, c)
    await renewed(c, ring.current)


async def test_node_with_another_key(region, trio):
    """Its links say so and so do those to it, with what each of them tried."""
    a, b, c = trio
    await c.stop()
    (c.folder / "mesh.key").write_text(THIRD.text())
    for node in (a, b):
        await step(node, "stage", key=NEW.text())
    await region.start(c)
    doubt = "is the mesh key the same there?"
    tried: dict[str, set[str]] = {"900a": set(), "900b": set()}

    def are_told() -> bool:
        for node in (a, b):
            [link] = [one for one in node.node.region.links() if one["peer"] == "900c"]
            if str(link["error"]).endswith(doubt):
                tried[node.name].add(str(link["mesh_key"]))
        both = {MESH_KEY.fingerprint(), NEW.fingerprint()}
        return all(found == both for found in tried.values())

    await until(are_told)
    assert (await c.links())["900a"]["error"].endswith(doubt)
    assert (await c.links())["900a"]["mesh_key"] == THIRD.fingerprint()
    assert a.ups == {"900b"}


async def test_node_that_was_started_with_the_next_key(region, trio):
    """It is linked both ways while the others have the key staged."""
    a, b, c = trio
    await c.stop()
    (c.folder / "mesh.key").write_text(NEW.text())
    for node in (a, b):
        await step(node, "stage", key=NEW.text())
    await region.start(c)
    await region.linked(a, b, c)
    assert (await a.links())["900c"]["mesh_key"] == NEW.fingerprint()
    [note] = [one for one in a.node.region.notes() if "mesh key" in one]
    assert "a rotation is under way" in note
