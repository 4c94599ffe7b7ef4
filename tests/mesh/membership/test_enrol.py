"""A node that records itself in a real etcd, and stays recorded."""

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from itertools import repeat

import pytest

from derpmesh.etcd.client import Etcd
from derpmesh.membership.enrol import Enrolment
from derpmesh.membership.keys import Keys
from derpmesh.membership.records import LiveMember, NodeIntent, RegionIntent
from derpnode.kinds import Kind
from derpnode.server.journal import Journal
from tests.mesh.membership.registries import way_to
from tests.mesh.membership.scene import REGION, member
from tests.mesh.region import until
from tests.support.etcd import (
    Found,
    deleting,
    names,
    putting,
    revoke,
    stored,
    transaction,
)


pytestmark = pytest.mark.interop

TTL = 4
"""Seconds that a lease lasts: short, and no shorter than a busy machine needs."""

PAUSE = 0.05
"""Seconds between two attempts to be recorded."""

Start = Callable[..., "Enrolled"]


class Enrolled:
    """A node that keeps itself recorded, and may be asked what is recorded."""

    def __init__(
        self,
        etcd: Etcd,
        url: str,
        keys: Keys,
        *,
        server_key: str = "nodekey:a",
        instance: str = "one",
        host: str = "a.example.com",
    ) -> None:
        self.state = "serving"
        self.key = keys.of("members", "901a")
        self.intent_key = keys.of("intent", "901a")
        self.journal = Journal(lambda: datetime.now(UTC))
        self.enrolment = Enrolment(
            etcd,
            keys,
            RegionIntent(**REGION.model_dump(), author="901a"),
            entry=lambda: member("a", host=host),
            about=lambda epoch: LiveMember(
                name="901a",
                server_key=server_key,
                instance=instance,
                epoch=epoch,
                version="1",
                state=self.state,
            ),
            ttl=TTL,
            backoff=lambda: repeat(PAUSE),
            journal=self.journal,
        )
        self._url = url
        self._task = asyncio.get_running_loop().create_task(self.enrolment.run())

    @property
    def kinds(self) -> list[Kind]:
        """What it told."""
        return [event.kind for event in self.journal.after(0)]

    @property
    def found(self) -> Found | None:
        """What is stored of it under its lease."""
        return stored(self._url, self.key)

    @property
    def record(self) -> LiveMember | None:
        """What it says of itself."""
        found = self.found
        return LiveMember.read(self.key, found.value) if found is not None else None

    @property
    def intent(self) -> NodeIntent | None:
        """What is wanted of it."""
        found = stored(self._url, self.intent_key)
        return (
            NodeIntent.read(self.intent_key, found.value) if found is not None else None
        )

    async def recorded(self) -> LiveMember:
        """Wait until it is."""
        await until(lambda: self.enrolment.lease)
        found = self.record
        assert found is not None
        return found

    async def refused(self) -> str:
        """Wait until it is not recorded; say why."""
        await until(lambda: self.enrolment.problem)
        return self.enrolment.problem

    async def end(self) -> None:
        """Stop it."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        assert self._task.cancelled(), self._task.exception()


@pytest.fixture
def url(shared_etcd) -> str:
    """Give where the server is."""
    [found] = shared_etcd.urls
    return found


@pytest.fixture
async def start(etcd, url, keys) -> AsyncIterator[Start]:
    """Give a function that starts nodes; they are stopped afterwards."""
    started: list[Enrolled] = []

    def run(client: Etcd = etcd, **about: str) -> Enrolled:
        started.append(Enrolled(client, url, keys, **about))
        return started[-1]

    yield run
    for one in started:
        await one.end()


def want(url: str, keys: Keys, **about: object) -> None:
    """Say what operators want of the region."""
    wanted = RegionIntent(**REGION.model_dump(), **about)
    transaction(url, putting(keys.region, wanted.write()))


async def test_node_records_itself(start, url, keys):
    """The region, the intent, and what it says of itself; only that has a lease."""
    node = start()
    found = await node.recorded()
    assert (found.epoch, found.state, found.owner) == (1, "serving", "901a")
    wanted = NodeIntent(node=member("a"), author="901a", server_key="nodekey:a")
    assert node.intent == wanted
    region = stored(url, keys.region)
    assert RegionIntent.read(keys.region, region.value).region == REGION
    assert region.lease == stored(url, node.intent_key).lease == 0
    await until(lambda: node.kinds == [Kind.RECORDED])
    assert node.found.lease == node.enrolment.lease


async def test_intent_is_written_once(start, url):
    """What is there already is what is wanted, though the node is otherwise by now."""
    first = start()
    await first.recorded()
    await first.end()
    before = stored(url, first.intent_key)
    again = start(instance="two", host="elsewhere.example.com")
    await again.recorded()
    assert stored(url, again.intent_key) == before


async def test_intent_of_an_operator_stands(start, url, keys):
    """Also where nobody else may join."""
    want(url, keys, join="listed")
    listed = NodeIntent(node=member("a", can_port80=True), author="operator")
    transaction(url, putting(keys.of("intent", "901a"), listed.write()))
    node = start()
    await node.recorded()
    assert node.intent == listed


async def test_region_whose_nodes_were_all_listed(start, url, keys):
    """The first of them says what the region is: nobody did, and `show` found none."""
    listed = NodeIntent(node=member("a"), author="operator")
    transaction(url, putting(keys.of("intent", "901a"), listed.write()))
    node = start()
    await node.recorded()
    region = RegionIntent.read(keys.region, stored(url, keys.region).value)
    assert region == RegionIntent(**REGION.model_dump(), author="901a")
    assert node.intent == listed


async def test_listed_node_of_a_region_that_is_garbage(start, url, keys):
    """It is recorded: one bad record spoils no other."""
    listed = NodeIntent(node=member("a"), author="operator")
    transaction(url, putting(keys.of("intent", "901a"), listed.write()))
    transaction(url, putting(keys.region, b"{"))
    node = start()
    await node.recorded()


async def test_node_that_was_taken_out_stays_out(start, url, keys):
    """Until an operator adds it; then it needs no restart."""
    struck = NodeIntent(node=member("a"), author="operator", removed=True)
    transaction(url, putting(keys.of("intent", "901a"), struck.write()))
    node = start()
    assert await node.refused() == (
        "901a was taken out of the region; an operator may add it"
    )
    assert node.record is None
    added = struck.model_copy(update={"removed": False})
    transaction(url, putting(node.intent_key, added.write()))
    await node.recorded()
    assert node.enrolment.problem == ""


async def test_node_that_is_taken_out_while_it_runs(start, url):
    """It says so, and its record ends: it stayed recorded until it was restarted."""
    node = start()
    await node.recorded()
    struck = node.intent.model_copy(update={"removed": True})
    transaction(url, putting(node.intent_key, struck.write()))
    assert "901a was taken out of the region" in await node.refused()
    await until(lambda: node.found is None)
    assert node.intent == struck


async def test_intent_that_is_broken_while_it_runs(start, url):
    """It costs the node nothing: the last good one is in force."""
    node = start()
    before = await node.recorded()
    transaction(url, putting(node.intent_key, b"{"))
    await asyncio.sleep(TTL / 2)  # at least one beat, which looks at it
    assert (node.record, node.enrolment.problem) == (before, "")


async def test_region_that_takes_listed_nodes_only(start, url, keys):
    """A node that nobody has listed writes nothing at all."""
    want(url, keys, join="listed")
    node = start()
    assert await node.refused() == (
        "the region takes listed nodes only; an operator may add 901a"
    )
    assert names(url, keys.of("intent", "")) == [keys.region.decode()]


async def test_name_that_another_node_has(start):
    """The second one is refused, and says who has it; the first one notices nothing."""
    first = start()
    before = await first.recorded()
    second = start(server_key="nodekey:b")
    assert await second.refused() == (
        "another node is called 901a: nodekey:a; give this one another name"
    )
    assert first.record == before
    assert first.enrolment.lease


async def test_two_nodes_of_one_name_that_start_at_once(start, url, keys):
    """One of them is recorded, whichever; the other one says who has the name."""
    both = [start(), start(server_key="nodekey:b")]
    await until(lambda: any("another node" in one.enrolment.problem for one in both))
    [winner] = [one for one in both if one.enrolment.lease]
    [loser] = [one for one in both if one.enrolment.problem]
    assert winner.record.server_key in loser.enrolment.problem
    assert names(url, keys.root + b"members/") == [winner.key.decode()]


async def test_two_processes_of_one_node(start):
    """The one that started last has the record; the other says so, and lets it be."""
    first = start(instance="one")
    await first.recorded()
    second = start(instance="two")
    found = await second.recorded()
    assert (found.instance, found.epoch) == ("two", 1)
    refused = await first.refused()
    assert "another process runs as 901a, with this node's key" in refused
    lease = second.found.lease
    clock = asyncio.get_running_loop().time
    end = clock() + 2 * TTL
    await until(lambda: clock() > end)
    assert (second.record.instance, second.found.lease) == ("two", lease)
    await second.end()
    found = await first.recorded()
    assert (found.instance, first.enrolment.problem) == ("one", "")


async def test_name_is_free_once_its_node_is_gone(start):
    """The one that waits for it takes it."""
    first = start()
    await first.recorded()
    second = start(server_key="nodekey:b")
    await second.refused()
    await first.end()
    assert (await second.recorded()).server_key == "nodekey:b"


async def test_node_that_died_and_is_back(start, url, keys, etcd):
    """It takes over the record that its last process left, before that has ended."""
    left = LiveMember(
        name="901a",
        server_key="nodekey:a",
        instance="dead",
        epoch=7,
        version="1",
        state="serving",
    )
    lease = (await etcd.lease_grant(60)).id
    await etcd.put(keys.of("members", "901a"), left.write(), lease)
    node = start()
    assert (await node.recorded()).instance == "one"
    revoke(url, lease)
    assert node.found.lease == node.enrolment.lease


async def test_lease_that_is_lost(start, url, keys):
    """A new one is taken, which counts one more; there is one record at any time."""
    node = start()
    await node.recorded()
    before = node.found
    revoke(url, before.lease)
    assert node.record is None
    await until(lambda: node.enrolment.lease not in (0, before.lease))
    assert node.record.epoch == 2
    assert node.found.lease == node.enrolment.lease
    assert names(url, keys.root + b"members/") == [node.key.decode()]
    await until(lambda: len(node.kinds) == 3)
    assert node.kinds == [Kind.RECORDED, Kind.LEASE_LOST, Kind.RECORDED]


async def test_new_state_is_put_at_once(start):
    """Under the same lease, and no later than half a second and a write."""
    node = start()
    await node.recorded()
    before = node.found
    node.state = "draining"
    await until(lambda: node.record.state == "draining")
    assert (node.found.lease, node.record.epoch) == (before.lease, 1)


async def test_nothing_is_put_while_nothing_is_new(start):
    """The lease is kept alive without a write, past its time."""
    node = start()
    await node.recorded()
    before = node.found
    clock = asyncio.get_running_loop().time
    end = clock() + 1.25 * TTL
    await until(lambda: clock() > end)
    assert node.found == before


async def test_record_that_somebody_deleted(start, url):
    """It comes back, and so does the intent if that is gone too."""
    node = start()
    await node.recorded()
    transaction(url, deleting(node.key), deleting(node.intent_key))
    await until(lambda: node.record is not None)
    assert node.record.epoch == 2
    wanted = NodeIntent(node=member("a"), author="901a", server_key="nodekey:a")
    assert node.intent == wanted


async def test_intent_alone_that_somebody_deleted(start, url):
    """It comes back: who means it marks the intent as removed. The lease is kept."""
    node = start()
    await node.recorded()
    before = node.found
    transaction(url, deleting(node.intent_key))
    await until(lambda: node.intent is not None)
    assert node.found == before


async def test_intent_that_an_operator_deleted(start, url, keys):
    """Where only they may list nodes, it is believed, and the record ends as well."""
    node = start()
    await node.recorded()
    want(url, keys, join="listed")
    transaction(url, deleting(node.intent_key))
    assert "takes listed nodes only" in await node.refused()
    await until(lambda: node.found is None)


async def test_record_is_taken_back_at_the_end(start, url, keys):
    """With its lease; what is wanted stays."""
    node = start()
    await node.recorded()
    await node.end()
    assert node.enrolment.lease == 0
    assert node.record is None
    assert names(url, keys.of("members", "")) == []
    found = names(url, keys.of("intent", ""))
    assert found == [node.intent_key.decode(), keys.region.decode()]
    assert len(names(url, keys.of("edits", ""))) == len(found)


async def test_etcd_goes_away_and_comes_back(start, shared_etcd):
    """The node says so, and is recorded again though its lease has ended."""
    [server] = shared_etcd.servers
    async with way_to(server) as (proxy, client):
        node = start(client)
        await node.recorded()
        await proxy.refuse()
        assert proxy.url in await node.refused()
        await until(lambda: node.found is None)
        await proxy.accept()
        await until(lambda: node.record is not None)
        await until(lambda: not node.enrolment.problem)
        assert node.record.epoch > 1
        assert node.kinds[:2] == [Kind.RECORDED, Kind.NOT_RECORDED]
        await until(lambda: node.kinds[-1] == Kind.RECORDED)
        await node.end()


async def test_etcd_is_away_for_less_than_a_lease(start, shared_etcd):
    """Then nothing has changed."""
    [server] = shared_etcd.servers
    async with way_to(server) as (proxy, client):
        node = start(client)
        await node.recorded()
        before = node.found
        proxy.cut()
        clock = asyncio.get_running_loop().time
        end = clock() + TTL
        await until(lambda: clock() > end)
        assert node.found == before
        await node.end()


async def test_intent_that_is_garbage(start, url, keys):
    """The node does not guess; it says which key, and goes on once that is mended."""
    transaction(url, putting(keys.of("intent", "901a"), b"\xff{"))
    node = start()
    problem = await node.refused()
    assert problem.startswith(f"{node.intent_key.decode()}: not JSON")
    transaction(url, deleting(node.intent_key))
    await node.recorded()


async def test_record_of_the_name_that_is_garbage(start, url, keys):
    """It is nobody's, so it is replaced."""
    transaction(url, putting(keys.of("members", "901a"), b"[]"))
    node = start()
    assert (await node.recorded()).epoch == 1
