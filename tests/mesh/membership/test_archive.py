"""What the map was, and how it becomes that again, on a real etcd."""

from dataclasses import replace

import pytest

from derpmesh.membership import archive as archive_module
from derpmesh.membership.edits import as_of, in_order
from derpmesh.membership.model import Drain
from derpmesh.membership.operator import Operator
from derpmesh.membership.records import RegionIntent
from tests.mesh.membership.scene import REGION, A, B, C
from tests.support.etcd import putting, transaction


pytestmark = pytest.mark.interop

MOVED = B.model_copy(update={"host": "moved.example.net"})


@pytest.fixture
async def operator(etcd, keys):
    """An operator who said what the region is, and listed two nodes."""
    found = Operator(etcd, keys, "ann@desk")
    await found.put_region(RegionIntent(**REGION.model_dump()), 0)
    for member in (A, B):
        await found.add(member)
    return found


async def was(operator, revision):
    """Give the nodes as they were, by the edits that are kept."""
    now = await operator.wanted()
    found = as_of(now, await operator.archive.edits(), revision)
    return None if found is None else found.members


async def test_every_change_of_the_map_is_kept(operator):
    """Who, what, before and after; what is no part of the map is no edit."""
    await operator.drain(A.name, Drain())
    region, revision = await operator.region()
    await operator.put_region(region.model_copy(update={"join": "listed"}), revision)
    await operator.remove(B.name)
    edits = [dated.edit for dated in await operator.archive.edits()]
    assert [(one.what, one.author) for one in edits] == [
        ("region", "ann@desk"),
        (A.name, "ann@desk"),
        (B.name, "ann@desk"),
        (B.name, "ann@desk"),
    ]
    assert (edits[-1].before, edits[-1].after) == (B.plain(), None)
    assert edits[0].after == REGION.plain() | {"order": []}


async def test_looking_back(operator):
    """Each revision has the map that it had."""
    revisions = [dated.revision for dated in await operator.archive.edits()]
    await operator.remove(A.name)
    _, added = await operator.add(C)
    assert await was(operator, added) == (B, C)
    assert await was(operator, added - 1) == (B,)
    assert [await was(operator, one) for one in revisions] == [(), (A,), (A, B)]
    assert await was(operator, revisions[0] - 1) is None


async def test_going_back(operator):
    """All at once; what was listed since is taken out, and what was taken out is back.

    A wish to drain stays with a node that stays.
    """
    then = await operator.wanted()
    await operator.drain(B.name, Drain())
    await operator.remove(A.name)
    await operator.add(C)
    region, revision = await operator.region()
    said = region.model_copy(update={"order": [C.name, B.name], "bring_home": False})
    await operator.put_region(said, revision)
    now = await operator.wanted()
    done = await operator.archive.become(then, now)
    found = await operator.wanted()
    assert (found.members, found.revision) == ((A, B), done)
    assert (found.intent.order, found.intent.bring_home) == ([], True)
    nodes = await operator.nodes()
    assert nodes[B.name].intent.drain == Drain()
    assert nodes[C.name].intent.removed
    assert await operator.archive.become(then, found) == done


async def test_somebody_was_faster(operator):
    """Then the region is not what somebody looked at, and nothing is done."""
    seen = await operator.wanted()
    await operator.remove(B.name)
    empty = replace(seen, members=())
    assert await operator.archive.become(empty, seen) is None
    assert await operator.archive.become(empty, None) is None
    assert (await operator.wanted()).members == (A,)


async def test_a_region_that_nobody_knows_yet(etcd, keys):
    """It is made, with its nodes."""
    operator = Operator(etcd, keys, "ann@desk")
    intent = RegionIntent(**REGION.model_dump(), order=[B.name, A.name])
    wanted = in_order(intent, {A.name: A, B.name: B}, 0)
    assert await operator.archive.become(wanted, None)
    assert (await operator.wanted()).members == (B, A)


async def test_old_edits_go(operator, monkeypatch):
    """When there are too many, and somebody cleans up."""
    monkeypatch.setattr(archive_module, "MOST", 2)
    seen = await operator.wanted()
    nodes = {A.name: A, B.name: MOVED}
    await operator.archive.become(in_order(seen.intent, nodes, 0), seen)
    await operator.archive.forget()
    edits = await operator.archive.edits()
    assert [(one.edit.what, one.edit.after) for one in edits] == [
        (B.name, B.plain()),
        (B.name, MOVED.plain()),
    ]


async def test_broken_edit(operator, shared_etcd, keys):
    """It is skipped."""
    url = shared_etcd.urls[0]
    transaction(url, putting(keys.of("edits", "junk"), b"{"))
    assert len(await operator.archive.edits()) == 3


async def test_edit_is_written_with_its_intent(operator):
    """In one moment: a crash cannot part them."""
    dated = (await operator.archive.edits())[-1]
    intent = (await operator.nodes())[B.name]
    assert dated.revision == intent.revision
