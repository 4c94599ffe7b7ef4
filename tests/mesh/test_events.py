"""What nodes of a real region tell of what happens to it."""

import base64

import pytest

from derpmesh.membership.keys import Keys
from derpmesh.membership.snapshot import Snapshots
from derpnode.wire.keys import NodeKey, short_key
from tests.mesh.region import REGION, LocalNode, cluster, routes, until
from tests.mesh.stewards import running_etcd
from tests.support.etcd import deleting, transaction


KEYS = Keys("/derpmesh/v1", REGION.id)


@pytest.fixture
async def region():
    """A region without nodes."""
    async with cluster() as found:
        yield found


def told(node: LocalNode, *kinds: str, after: int = 0) -> list[tuple[str, str]]:
    """Give kind and subject of the events of some kinds."""
    return [
        (event.kind.value, event.subject)
        for event in node.node.journal.after(after)
        if event.kind.value in kinds
    ]


def texts(key: NodeKey) -> tuple[str, ...]:
    """Give how a key may be written."""
    return key.hex(), short_key(key).strip("[]"), base64.b64encode(key).decode()


async def kept(node: LocalNode) -> None:
    """Wait until what is in force is on disk, which goes on beside a test's end."""
    snapshots = Snapshots(node.folder, REGION.id)
    revision = node.node.region.membership()["revision"]
    await until(lambda: snapshots.load().revision == revision)


async def test_members_and_links(region):
    """A node that joins and leaves is told of by those who stay, link and all."""
    a, b, c = (region.place(letter) for letter in "abc")
    region.write(a, b)
    for node in (a, b, c):
        await region.start(node)
    await region.linked(a, b)
    region.write(a, b, c)
    await region.linked(a, b, c)
    person = await region.connect(a)
    await until(lambda: person.key in routes(b))
    region.write(a, b)
    await until(lambda: ("member_lost", "900c") in told(a, "member_lost"))
    _, page = await a.ask("/v1/events")
    assert not any(text in str(page) for text in texts(person.key))
    assert told(a, "member_joined", "member_lost") == [
        ("member_joined", "900a"),
        ("member_joined", "900b"),
        ("member_joined", "900c"),
        ("member_lost", "900c"),
    ]
    await until(lambda: told(a, "link_up", "link_lost")[-1] == ("link_lost", "900c"))
    # 900b was not there yet when it was dialled first.
    assert told(a, "link_up") == [("link_up", "900b"), ("link_up", "900c")]
    for node in (a, b, c):
        await kept(node)


async def test_file_that_is_broken(region):
    """It is told once, however it is broken next, and that it is well again."""
    a = region.place("a")
    region.write(a)
    await region.start(a)
    await until(lambda: told(a, "member_joined"))
    for text in ("nodes: [", "nodes: 7"):
        before = a.node.region.notes()
        region.edit(text)
        await until(lambda was=before: a.node.region.notes() != was)
    region.write(a)
    await until(lambda: told(a, "registry_back"))
    assert told(a, "registry_lost", "registry_back") == [
        ("registry_lost", ""),
        ("registry_back", ""),
    ]


async def test_node_that_is_killed(region):
    """Its peer tells why the link was lost, and that it is back."""
    a, victim = region.place("a"), region.child("b")
    region.write(a, victim)
    for place in (a, victim):
        await region.start(place)
    await until(lambda: a.ups == {"900b"})
    victim.kill()
    victim.process.wait()
    await until(lambda: told(a, "link_up", "link_lost")[-1][0] == "link_lost")
    found = [event for event in a.node.journal.after(0) if event.subject == "900b"]
    assert found[-1].fields["was_up"] is True
    await region.start(region.again(victim))
    await until(lambda: told(a, "link_up") == [("link_up", "900b")] * 2)


# With etcd.


@pytest.fixture
def etcd(tmp_path):
    """An etcd that may be killed."""
    with running_etcd(tmp_path) as server:
        yield server


@pytest.fixture
async def pair(etcd, region):
    """Two nodes that recorded themselves."""
    nodes = [region.place(letter) for letter in "ab"]
    for node in nodes:
        node.configure(registry={"etcd": {"endpoints": [etcd.url], "ttl": 5}})
        await region.start(node)
    await region.linked(*nodes)
    await until(lambda: all(told(node, "recorded") for node in nodes))
    return nodes


@pytest.mark.interop
async def test_etcd_that_goes_and_comes_back(etcd, pair):
    """Lost, back, and recorded again, in this order."""
    a = pair[0]
    last = a.node.journal.last
    etcd.kill()
    await until(lambda: told(a, "registry_lost", after=last))
    await until(lambda: told(a, "not_recorded", after=last))
    etcd.launch({etcd.name: etcd.peer_url})
    kinds = ("registry_lost", "registry_back", "recorded")
    await until(lambda: len(told(a, *kinds, after=last)) == 3, within=40.0)
    found = told(a, *kinds, after=last)
    assert set(found) == {(kind, "") for kind in kinds}
    assert found[0] == ("registry_lost", "")
    assert told(a, "member_lost", "link_lost") == []


@pytest.mark.interop
async def test_members_that_are_held_and_confirmed(etcd, pair):
    """Who vanished is held; that an operator confirmed it comes before the loss."""
    a, b = pair
    await b.stop()
    transaction(etcd.url, deleting(KEYS.root))
    await until(lambda: a.node.region.membership()["held"] == ["900b"])
    assert ("held", "900b") in told(a, "held")
    await kept(a)
    a.node.region.confirm()
    assert told(a, "confirmed", "member_lost") == [
        ("confirmed", "900b"),
        ("member_lost", "900b"),
    ]


@pytest.mark.interop
async def test_snapshot(etcd, pair, region):
    """A node that restarts without etcd says what it goes by."""
    b = pair[1]
    snapshots = Snapshots(b.folder, REGION.id)
    await until(lambda: list(snapshots.load().members) == ["900a", "900b"])
    await b.stop()
    etcd.kill()
    again = region.again(b)
    again.configure(registry={"etcd": {"endpoints": [etcd.url], "ttl": 5}})
    await region.start(again)
    await until(lambda: told(again, "snapshot_used"))
    assert told(again, "snapshot_used", "member_joined") == [
        ("snapshot_used", ""),
        ("member_joined", "900a"),
        ("member_joined", "900b"),
    ]
