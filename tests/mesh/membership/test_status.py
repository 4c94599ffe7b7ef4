"""Reports through a real etcd, and watches that fall silent."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

import pytest

from derpmesh.etcd.client import Etcd
from derpmesh.membership import etcd as etcd_module
from derpmesh.membership import status as status_module
from derpmesh.membership.etcd import EtcdRegistry
from derpmesh.membership.records import LiveMember, LiveStatus, NodeIntent
from derpmesh.membership.status import Reporter
from tests.mesh.membership.registries import SHORT
from tests.mesh.membership.scene import REGION, A
from tests.mesh.region import until
from tests.support.etcd import putting, revoke, stored, transaction
from tests.support.proxy import Proxy


pytestmark = pytest.mark.interop

LIVE = LiveMember(
    name=A.name,
    server_key="nodekey:a",
    instance="one",
    epoch=1,
    version="1",
    state="serving",
)


async def test_reports_end_with_the_lease(etcd, shared_etcd, keys, monkeypatch):
    """While there is a lease a report follows the other; without one there is none."""
    monkeypatch.setattr(status_module, "INTERVAL", 0.05)
    [url] = shared_etcd.urls
    lease = (await etcd.lease_grant(60)).id
    held = [0]
    reporter = Reporter(
        etcd,
        keys,
        lease=lambda: held[0],
        about=lambda count: LiveStatus(
            name=A.name, count=count, clients=7, links={"901b": "up"}
        ),
        sleep=lambda _: asyncio.sleep(0.05),
    )
    key = keys.of("status", A.name)

    def report() -> LiveStatus | None:
        found = stored(url, key)
        return LiveStatus.read(key, found.value) if found is not None else None

    async with asyncio.TaskGroup() as group:
        task = group.create_task(reporter.run())
        await asyncio.sleep(0.2)  # nothing is to happen, and nobody tells that
        assert report() is None
        held[0] = lease
        await until(lambda: (found := report()) is not None and found.count > 2)
        found = report()
        assert found is not None
        assert (found.clients, found.links) == (7, {"901b": "up"})
        held[0] = 0
        revoke(url, lease)
        await until(lambda: report() is None)
        held[0] = lease  # a lease that ended: the report fails, and the next is tried
        await asyncio.sleep(0.2)
        assert not task.done()
        task.cancel()


async def test_silent_watch_is_left(etcd, shared_etcd, keys, monkeypatch):
    """Where nodes report, a watch that brings nothing is dead: another is begun."""
    monkeypatch.setattr(etcd_module, "SILENCE", 2.0)
    [url] = shared_etcd.urls
    lease = (await etcd.lease_grant(60)).id
    reporter = Reporter(
        etcd,
        keys,
        lease=lambda: lease,
        about=lambda count: LiveStatus(name=A.name, count=count, clients=0, links={}),
        sleep=lambda _: asyncio.sleep(0.2),
    )
    transaction(url, putting(keys.of("members", A.name), LIVE.write()))
    port = int(url.rpartition(":")[2])
    async with Proxy(port) as proxy, client_of(proxy.url, url) as client:
        registry = EtcdRegistry(client, keys, REGION, uniform=lambda *_: 600.0)
        registry.heard = reporter.heard
        now = await registry.read()
        async with (
            aclosing(registry.changes(now.revision)) as changes,
            asyncio.TaskGroup() as group,
            asyncio.timeout(30),
        ):
            reporting = group.create_task(reporter.run())
            following = group.create_task(anext(changes))
            await until(lambda: bool(registry.statuses))  # by the watch
            await until(lambda: reporter.lag is not None)
            proxy.stall()
            await until(lambda: (reporter.lag or 0.0) > 1.0)
            intent = NodeIntent(node=A, author=A.name)
            transaction(url, putting(keys.of("intent", A.name), intent.write()))
            change = await following
            reporting.cancel()
        assert change.put == (A,)
        assert client.endpoint == url
        assert registry.relists == {"start": 1, "silent": 1}


@asynccontextmanager
async def client_of(*urls: str) -> AsyncIterator[Etcd]:
    """Give a client of its own, which is closed."""
    client = Etcd(urls, patience=SHORT)
    try:
        yield client
    finally:
        await client.close()


async def test_statuses(etcd, shared_etcd, keys):
    """They are read with the rest, and change no membership."""
    [url] = shared_etcd.urls
    status = LiveStatus(name=A.name, count=3, clients=1, links={})
    transaction(url, putting(keys.of("status", A.name), status.write()))
    registry = EtcdRegistry(etcd, keys, REGION)
    found = await registry.read()
    assert registry.statuses == {A.name: status}
    assert not found.members
