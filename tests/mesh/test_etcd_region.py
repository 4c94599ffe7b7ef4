"""Real nodes whose region is recorded in a real etcd, and what that goes through."""

import asyncio
import json
import shutil
import signal
import time
from collections.abc import Iterator, Sequence

import pytest
import yaml

from derpmesh.config import EtcdSection
from derpmesh.membership import witness
from derpmesh.membership.model import Drain
from derpmesh.membership.operator import operating
from derpmesh.membership.records import NodeIntent, RegionIntent
from derpmesh.membership.snapshot import Snapshots
from derpnode.kinds import Kind
from tests.mesh.enrolled import (
    KEYS,
    NAMES,
    TTL,
    assert_kept,
    assert_relayed,
    enrolled,
    leases,
    live,
    members,
    up_since,
)
from tests.mesh.region import (
    LOOK,
    OTHER_MESH_KEY,
    PATIENCE,
    REGION,
    cluster,
    measured,
    until,
)
from tests.mesh.stewards import running_etcd
from tests.support.etcd import (
    Server,
    deleting,
    names,
    putting,
    revoke,
    stored,
    transaction,
)


pytestmark = [pytest.mark.interop, pytest.mark.timeout(120)]


@pytest.fixture
def etcd(tmp_path) -> Iterator[Server]:
    """An etcd that may be killed."""
    with running_etcd(tmp_path) as server:
        yield server


@pytest.fixture
async def region(etcd):
    """A region without nodes; `etcd` ends after they do."""
    async with cluster() as found:
        yield found


@pytest.fixture
async def trio(region, etcd):
    """Three nodes that recorded themselves, and are linked to each other."""
    nodes = [region.place(letter) for letter in "abc"]
    for node in nodes:
        await region.start(enrolled(node, etcd))
    await region.linked(*nodes)
    await until(lambda: all(members(node) == NAMES for node in nodes))
    await until(lambda: all(node.node.region.notes() == [] for node in nodes))
    return nodes


async def test_nodes_join(region, etcd):
    """Nobody has listed them; each is known to the others, and says what it is."""
    nodes = [region.place(letter) for letter in "abc"]
    for node in nodes[:2]:
        await region.start(enrolled(node, etcd))
    await region.linked(*nodes[:2])
    with measured("join of the third node by way of etcd, its start included"):
        await region.start(enrolled(nodes[2], etcd))
        await region.linked(*nodes)
    await assert_relayed(region, nodes[0], nodes[2])
    # What a node says of itself comes after its intent, by which it is linked.
    await until(lambda: len(nodes[0].node.region.membership()["live"]) == len(NAMES))
    _, found = await nodes[0].ask("/v1/membership")
    assert found["source"] == "etcd"
    assert [one["name"] for one in found["members"]] == NAMES
    assert found["members"][1]["pin"] == nodes[1].pin
    assert {name: one["state"] for name, one in found["live"].items()} == dict.fromkeys(
        NAMES, "serving"
    )
    assert [node.node.region.notes() for node in nodes] == [[], [], []]


async def test_nodes_are_given_names(region, etcd):
    """Three that start at once have three, and keep them through a restart."""
    nodes = [region.child(letter) for letter in "xyz"]
    for node in nodes:
        enrolled(node, etcd)
        tree = yaml.safe_load(node.config_file.read_text())
        tree["node"]["name"] = "auto"
        node.config_file.write_text(yaml.safe_dump(tree))
    async with asyncio.TaskGroup() as group:
        for node in nodes:
            group.create_task(region.start(node))

    async def called(node) -> str:
        return str((await node.ask("/v1/node"))[1]["name"])

    async def linked(node) -> set[str]:
        links = (await node.links()).items()
        return {peer for peer, link in links if link["state"] == "up"}

    found = [await called(node) for node in nodes]
    assert sorted(found) == NAMES
    for node in nodes:
        others = set(NAMES) - {await called(node)}
        async with asyncio.timeout(PATIENCE):
            while await linked(node) != others:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(LOOK)
    first, *_ = nodes
    first.end()
    etcd.kill()
    await region.start(first)
    assert await called(first) == found[0]


async def test_etcd_dies(region, etcd, trio):
    """F1: links stay, packets arrive, everybody says so; and it is over in silence."""
    a, b, c = trio
    x, y = await region.connect(a), await region.connect(b)
    before = up_since(*trio)
    etcd.kill()
    await x.send(y, b"right after")
    await y.until(lambda: b"right after" in y.packets(x))
    with measured("every node notices that etcd is away"):
        await until(lambda: all(node.node.region.notes() for node in trio))
    for node in trio:
        [note] = node.node.region.notes()
        assert note.startswith("registry: etcd: ")
        assert note.endswith("; the last good one stays in force")
    # Longer than leases last: nobody counts on them.
    clock = asyncio.get_running_loop().time
    end = clock() + TTL + 1
    await until(lambda: clock() > end)
    await assert_relayed(region, b, c)
    assert [members(node) for node in trio] == [NAMES] * 3
    assert_kept(before, *trio)
    etcd.launch({etcd.name: etcd.peer_url})
    with measured("etcd is back, and every node recorded"):
        await until(
            lambda: all(node.node.region.notes() == [] for node in trio), within=40.0
        )
    assert_kept(before, *trio)
    assert list(leases(etcd, *trio)) == NAMES


async def test_node_without_a_lease(region, etcd, monkeypatch):
    """It is unverified while it is linked, and lost when that is gone as well.

    Here it reads a file, as while a region moves to etcd, and records nothing.
    """
    monkeypatch.setattr(witness, "PATIENCE", 0.5)
    a, b, c = nodes = [region.place(letter) for letter in "abc"]
    region.write(*nodes)
    intent = NodeIntent(node=c.member, author="operator")
    transaction(etcd.url, putting(KEYS.of("intent", c.name), intent.write()))
    for node in nodes:
        await region.start(enrolled(node, etcd) if node is not c else node)
    await region.linked(*nodes)
    note = "900c: unverified: it has no lease in etcd, and its link is up"
    for node in (a, b):
        await until(lambda n=node: n.node.region.notes() == [note])
    await c.stop()
    lost = "900c: lost: it has no lease in etcd, and its link is down"
    for node in (a, b):
        await until(lambda n=node: str(n.node.region.notes()).count(lost) == 1)
        assert members(node) == NAMES


async def test_order_of_the_map(region, etcd, trio):
    """M8: the same on every node, also after one restarts, and as operators want it."""
    a, b, c = trio
    intent = RegionIntent(**REGION.model_dump(), order=["900c", "900a"])
    transaction(etcd.url, putting(KEYS.region, intent.write()))
    wanted = ["900c", "900a", "900b"]
    await until(lambda: all(members(node) == wanted for node in trio))
    await b.stop()
    again = enrolled(region.again(b), etcd)
    await region.start(again)
    await until(lambda: all(members(node) == wanted for node in (a, again, c)))


async def test_node_restarts_while_etcd_is_away(region, etcd, trio):
    """F2: it meshes as the region was last, and says where it has that from."""
    a, b, c = trio
    snapshots = Snapshots(c.folder, REGION.id)
    await until(lambda: list(snapshots.load().members) == NAMES)
    await c.stop()
    etcd.kill()
    again = enrolled(region.again(c), etcd)
    with measured("a node that restarts without etcd is linked") as lasted:
        await region.start(again)
        await until(lambda: again.ups == {"900a", "900b"})
        assert lasted() < 10.0
    assert again.node.region.membership()["source"] == "snapshot"
    assert members(again) == NAMES
    notes = "\n".join(again.node.region.notes())
    assert "never reached; the region is as this node last knew" in notes
    await assert_relayed(region, a, again)
    etcd.launch({etcd.name: etcd.peer_url})
    await until(lambda: again.node.region.membership()["source"] == "etcd", within=40.0)
    await region.linked(a, b, again)


async def test_every_lease_is_revoked(region, etcd):
    """F3: no link is torn down, and every record is back within 5 s."""
    trio = [region.place(letter) for letter in "abc"]
    for node in trio:
        await region.start(enrolled(node, etcd, ttl=15))
    await region.linked(*trio)
    await until(lambda: list(leases(etcd, *trio)) == NAMES)
    before, old = up_since(*trio), leases(etcd, *trio)
    for lease in old.values():
        revoke(etcd.url, lease)
    assert leases(etcd, *trio) == {}
    with measured("every record is back, of leases of 15 s") as lasted:
        await until(lambda: list(leases(etcd, *trio)) == NAMES)
        assert lasted() < 7.0  # what it is to be, and a breath for busy machines
    assert not set(leases(etcd, *trio).values()) & set(old.values())
    assert [live(etcd, name).epoch for name in NAMES] == [2, 2, 2]
    assert [members(node) for node in trio] == [NAMES] * 3
    assert_kept(before, *trio)


@pytest.mark.slow
async def test_process_that_stood_still(region, etcd):
    """F4: it finds its lease gone, takes another one, and counts one more."""
    a, b = region.place("a"), region.child("b")
    await region.start(enrolled(a, etcd))
    await region.start(enrolled(b, etcd))
    await until(lambda: a.ups == {"900b"})
    await until(lambda: live(etcd, "900b") is not None)
    before = live(etcd, "900b")
    b.process.send_signal(signal.SIGSTOP)
    stopped = time.monotonic()
    try:
        await until(lambda: live(etcd, "900b") is None)
        await until(lambda: time.monotonic() - stopped > 20.0, within=30.0)
        assert members(a) == ["900a", "900b"]
    finally:
        b.process.send_signal(signal.SIGCONT)
    with measured("a process that stood still is recorded again"):
        await until(lambda: live(etcd, "900b") is not None)
    after = live(etcd, "900b")
    assert after == before.model_copy(update={"epoch": 2, "state": after.state})
    assert names(etcd.url, KEYS.root + b"members/") == [
        KEYS.of("members", name).decode() for name in NAMES[:2]
    ]
    await until(lambda: a.ups == {"900b"})


async def test_every_record_is_deleted(region, etcd, trio):
    """F12: nothing is torn down; who lives is back, who does not is an operator's."""
    a, b, c = trio
    await c.stop()
    await until(lambda: a.ups == {"900b"} and b.ups == {"900a"})
    before = up_since(a, b)
    transaction(etcd.url, deleting(KEYS.root))
    await until(lambda: all("900c" in str(node.node.region.notes()) for node in (a, b)))
    with measured("the living nodes are recorded again after all was deleted"):
        await until(lambda: list(leases(etcd, *trio)) == NAMES[:2])
        await until(
            lambda: all(
                node.node.region.membership()["held"] == ["900c"] for node in (a, b)
            )
        )
    assert [members(node) for node in (a, b)] == [NAMES] * 2
    assert a.node.region.notes() == [
        "held: 900c vanished from the registry and stay in force;"
        " if that is meant: derpctl region confirm"
    ]
    assert a.node.region.confirm() == ["900c"]
    assert members(a) == NAMES[:2]
    assert a.node.region.notes() == []
    assert members(b) == NAMES
    assert a.node.region.confirm() == []
    _, answer = await b.ask("/v1/region/confirm", "POST")
    assert answer["let_go"] == ["900c"]
    assert members(b) == NAMES[:2]
    assert_kept(before, a, b)
    for node in (a, b):  # or 900c would be held again after a restart
        snapshots = Snapshots(node.folder, REGION.id)
        await until(lambda kept=snapshots: list(kept.load().members) == NAMES[:2])


def intents(etcd: Server) -> dict[str, bytes]:
    """What is wanted of the region, and of its nodes, as it is stored."""
    keys = names(etcd.url, KEYS.of("intent", ""))
    found = {key: stored(etcd.url, key.encode()) for key in keys}
    return {key: one.value for key, one in found.items() if one is not None}


@pytest.mark.parametrize("data", ["deleted", "gone"])
async def test_what_operators_wanted_is_forgotten(etcd, trio, tmp_path, data):
    """It is written again as it was: the nodes remember.

    A drained node took clients again, and the region any node that came.
    """
    b = trio[1]
    settings = EtcdSection(endpoints=[etcd.url])
    async with operating(settings, REGION.id, "ann") as operator:
        found, revision = await operator.region()
        update = {"join": "listed", "order": ["900c", "900b", "900a"], "name": "Ours"}
        assert await operator.put_region(found.model_copy(update=update), revision)
        await operator.drain("900b", Drain())
    await until(lambda: b.node.state == "drained")
    before = intents(etcd)
    if data == "deleted":
        transaction(etcd.url, deleting(KEYS.root))
    else:
        etcd.kill()
        shutil.rmtree(tmp_path / etcd.name / "data")
        etcd.launch({etcd.name: etcd.peer_url})
        await asyncio.to_thread(etcd.until_ready)
    await until(lambda: intents(etcd) == before, within=40.0)
    await until(lambda: all(node.node.region.notes() == [] for node in trio), 40.0)
    assert [members(node) for node in trio] == [["900c", "900b", "900a"]] * 3
    assert b.node.state == "drained"
    kinds = [event.kind for event in b.node.journal.after(0)]
    assert Kind.UNDRAINED not in kinds


async def test_etcd_that_lost_its_data(etcd, trio, tmp_path):
    """F8: the nodes write it all anew, and no link is torn down."""
    before = up_since(*trio)
    etcd.kill()
    shutil.rmtree(tmp_path / etcd.name / "data")
    etcd.launch({etcd.name: etcd.peer_url})
    await asyncio.to_thread(etcd.until_ready)
    with measured("every node is recorded in an etcd that lost its data"):
        await until(lambda: list(leases(etcd, *trio)) == NAMES, within=40.0)
        await until(
            lambda: all(node.node.region.notes() == [] for node in trio), within=40.0
        )
    assert [members(node) for node in trio] == [NAMES] * 3
    assert_kept(before, *trio)


def broken(number: int) -> tuple[bytes, bytes]:
    """Give a record of a node that is none: one of those that there may be."""
    name = f"900{'defghijklm'[number]}"
    node: dict[str, object] = {"name": name, "host": "d.example.com"}
    record = {"node": node, "author": "?", "removed": False}
    value = json.dumps(
        [
            None,
            [],
            record | {"removed": "no"},
            record | {"node": node | {"derp_port": 0}},
            record | {"node": node | {"derp_port": 70_000}},
            record | {"node": node | {"ipv6": "fe80::1::"}},
            record | {"node": node | {"host": "näme.example.com"}},
            record | {"node": node | {"name": "900a"}},
            record | {"author": "x" * (1 << 20)},
            record | {"node": node | {"host": "a b"}},
        ][number]
    ).encode()
    return KEYS.of("intent", name), value if number else b"\xff\x00{"


async def test_garbage(etcd, trio):
    """F11: each is named, and spoils no other; what was good before stays."""
    a = trio[0]
    before = up_since(*trio)
    found: Sequence[tuple[bytes, bytes]] = [broken(number) for number in range(10)]
    good = NodeIntent(node=a.member.model_copy(update={"name": "900z"}))
    own = KEYS.of("intent", "900b"), b"not json"
    kept = stored(etcd.url, own[0]).value
    steps = [putting(*one) for one in (*found, own)]
    transaction(etcd.url, *steps, putting(KEYS.of("intent", "900z"), good.write()))
    await until(lambda: all("900z" in members(node) for node in trio))
    bad = sorted([*(key.decode() for key, _ in found), own[0].decode()])
    for node in trio:
        assert members(node) == [*NAMES, "900z"]
        assert node.node.region.notes() == [
            f"etcd: {key} is no record of ours" for key in bad
        ]
    assert {key for key in up_since(*trio) if "900z" not in key} == set(before)
    transaction(
        etcd.url,
        *(deleting(key) for key, _ in found),
        putting(own[0], kept),
    )
    await until(lambda: all(node.node.region.notes() == [] for node in trio))
    assert members(a) == [*NAMES, "900z"]


async def test_fingerprints_of_mesh_keys(etcd, trio):
    """Each node records its own as they change; who does not take ours is named."""
    a, b, c = trio
    new = OTHER_MESH_KEY.text()
    for node in (a, b):
        body = {"phase": "stage", "key": new}
        assert (await node.ask("/v1/mesh-key", "POST", body))[0] == 200
        ring = node.node.mesh_keys.fingerprints()
        await until(lambda n=node, r=ring: live(etcd, n.name).mesh_keys == r)
        assert new.encode() not in stored(etcd.url, KEYS.of("members", node.name)).value
    assert (await a.ask("/v1/mesh-key", "POST", {"phase": "switch"}))[0] == 200
    expected = "mesh key: 900c does not take this node's, "
    await until(lambda: any(n.startswith(expected) for n in a.node.region.notes()))
    assert not any(expected in note for note in b.node.region.notes())
    assert c.node.region.notes() == []
