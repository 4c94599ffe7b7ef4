"""What operators write to a real etcd, also several of them at the same time."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from derpmesh.config import EtcdSection
from derpmesh.membership.errors import RegistryUnavailable
from derpmesh.membership.keys import Keys
from derpmesh.membership.model import Drain
from derpmesh.membership.operator import (
    Contended,
    Operator,
    OthersDrain,
    UnknownNode,
    operating,
)
from derpmesh.membership.records import (
    BadRecord,
    ClientIntent,
    NodeIntent,
    RegionIntent,
)
from derpmesh.membership.store import IntentStore
from derpnode.wire.keys import NodeKey, node_key_text
from tests.mesh.membership.scene import REGION, A, B, C
from tests.support.etcd import deleting, free_ports, putting, stored, transaction


pytestmark = pytest.mark.interop

CLIENT = NodeKey(b"\x07" * 32)


@pytest.fixture
async def operator(etcd, keys) -> AsyncIterator[Operator]:
    """An operator of a region of three nodes that listed themselves."""
    found = Operator(etcd, keys, "ann@desk")
    for member in (A, B, C):
        assert await found.put(NodeIntent(node=member, author=member.name))
    return found


async def test_drain(operator):
    """The intent says so, and who wished for it; the rest is as it was."""
    written = await operator.drain(A.name, Drain(grace=5))
    found = (await operator.nodes())[A.name]
    assert found.revision == written.revision
    assert found.intent == NodeIntent(node=A, author="ann@desk", drain=Drain(grace=5))
    await operator.drain(A.name, None)
    found = (await operator.nodes())[A.name]
    assert found.intent == NodeIntent(node=A, author="ann@desk")


async def test_wish_that_is_there_already(operator):
    """Nothing is written."""
    await operator.drain(A.name, Drain())
    before = (await operator.nodes())[A.name]
    await operator.drain(A.name, Drain())
    assert (await operator.nodes())[A.name] == before


async def test_two_nodes_do_not_drain_at_once(operator):
    """Unless by force."""
    await operator.drain(A.name, Drain())
    with pytest.raises(OthersDrain, match="901a is drained; 901b as well"):
        await operator.drain(B.name, Drain())
    assert (await operator.nodes())[B.name].intent.drain is None
    await operator.drain(B.name, Drain(force=True))
    await operator.drain(A.name, None)
    await operator.drain(B.name, None)
    await operator.drain(C.name, Drain())


async def test_operators_who_drain_at_the_same_time(operator):
    """One of them is first, and the other ones are told."""
    for _ in range(5):
        wishes = [operator.drain(node.name, Drain()) for node in (A, B, C)]
        found = await asyncio.gather(*wishes, return_exceptions=True)
        assert sum(isinstance(one, OthersDrain) for one in found) == 2, found
        drained = [
            name for name, one in (await operator.nodes()).items() if one.intent.drain
        ]
        assert len(drained) == 1
        await operator.drain(drained[0], None)


@pytest.mark.parametrize("name", ["901x", "_region", "901b"])
async def test_node_that_is_not_there(operator, name):
    """It was never, or was taken out; those that are there are named."""
    await operator.remove(B.name)
    with pytest.raises(UnknownNode, match=f"{name}: no such .* there is 901a, 901c"):
        await operator.drain(name, Drain())


async def test_node_is_taken_out(operator):
    """Its record stays, and says so: it must not come back by itself."""
    await operator.drain(B.name, Drain())
    await operator.remove(B.name)
    found = (await operator.nodes())[B.name].intent
    assert (found.removed, found.drain, found.node) == (True, None, B)


async def test_what_others_know_is_kept(operator, shared_etcd, keys):
    """A newer version's fields survive what an older one writes."""
    newer = b'{"node":{"name":"901a","host":"a.example.com","colour":1},"mood":"good"}'
    transaction(shared_etcd.urls[0], putting(keys.of("intent", "901a"), newer))
    await operator.drain(A.name, Drain())
    value = stored(shared_etcd.urls[0], keys.of("intent", "901a")).value
    assert b'"mood":"good"' in value
    assert b'"colour":1' in value
    assert b'"drain":{}' in value


async def test_rule_for_a_client(operator):
    """The last word counts, and says whose it is."""
    for rule in ("deny", "allow", "none"):
        await operator.rule(CLIENT, rule)
        assert await operator.clients() == {
            CLIENT: ClientIntent(
                key=node_key_text(CLIENT), rule=rule, author="ann@desk"
            )
        }


async def test_many_rules_at_the_same_time(operator):
    """Each client has a record of its own, so nobody is in the way."""
    clients = [NodeKey(bytes([number]) * 32) for number in range(20)]
    await asyncio.gather(*(operator.rule(client, "deny") for client in clients))
    assert (await operator.clients()).keys() == set(clients)


async def test_broken_rule(operator, shared_etcd, keys):
    """It is left out; another one can be written over it."""
    transaction(shared_etcd.urls[0], putting(keys.client(CLIENT), b"no"))
    assert await operator.clients() == {}
    await operator.rule(CLIENT, "deny")
    assert (await operator.clients())[CLIENT].rule == "deny"


async def test_broken_intent(operator, shared_etcd, keys):
    """It is named: an operator has to mend it. It spoils no other.

    It kept every node of the region from being drained, and taken out.
    """
    await operator.put_region(RegionIntent(**REGION.model_dump()), 0)
    transaction(shared_etcd.urls[0], putting(keys.of("intent", "901b"), b"no"))
    for asked in (
        operator.drain(B.name, Drain()),
        operator.remove(B.name),
        operator.add(B),
        operator.export_region(),
    ):
        with pytest.raises(BadRecord, match="intent/901b"):
            await asked
    assert list(await operator.nodes()) == [A.name, C.name]
    await operator.drain(A.name, Drain())
    await operator.remove(C.name)


async def test_region(operator):
    """Compare-and-put: only who has read the last one writes."""
    assert await operator.region() == (None, 0)
    intent = RegionIntent(**REGION.model_dump(), join="listed")
    first = await operator.put_region(intent, 0)
    found, revision = await operator.region()
    assert (found.join, found.author, revision) == ("listed", "ann@desk", first)
    assert await operator.put_region(intent, 0) is None


class Busy(IntentStore):
    """A registry in which somebody changes an intent before each write of ours."""

    async def put(self, intent, before, given=None):
        """See the store."""
        found = (await self.read()).nodes[intent.node.name]
        await super().put(found.intent, found)
        return await super().put(intent, before, given)


async def test_somebody_else_is_always_faster(operator, etcd, keys):
    """That ends, and says so."""
    operator._store = Busy(etcd, keys, "bob")
    with pytest.raises(Contended, match="901a: somebody else"):
        await operator.drain(A.name, Drain())


async def test_etcd_is_away():
    """Every call says so."""
    [port] = free_ports(1)
    settings = EtcdSection(endpoints=[f"http://127.0.0.1:{port}"])
    async with operating(settings, REGION.id, "ann") as operator:
        with pytest.raises(RegistryUnavailable):
            await operator.nodes()


async def test_intents_are_gone(operator, shared_etcd, keys):
    """There is nobody to drain."""
    transaction(shared_etcd.urls[0], deleting(keys.root))
    with pytest.raises(UnknownNode, match="there is no node"):
        await operator.drain(A.name, Drain())


def test_key_of_a_client():
    """It is written one way; other keys are of nobody."""
    keys = Keys("/derpmesh/v1", 901)
    key = b"/derpmesh/v1/regions/901/clients/nodekey:" + b"07" * 32
    assert keys.client(CLIENT) == key
    assert keys.read_client(key) == CLIENT
    for other in (key.upper(), key[:-1], key + b"0", keys.root + key, b"", b"\xff"):
        assert keys.read_client(other) is None
