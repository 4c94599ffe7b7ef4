"""Users of a real etcd: tokens end and are renewed, and what is not ours is refused."""

import asyncio
import logging
from contextlib import aclosing
from typing import NamedTuple

import pytest

from derpmesh.etcd.answers import Batch
from derpmesh.etcd.client import Etcd
from derpmesh.etcd.errors import Refused, TokenRefused, Unauthenticated
from derpmesh.etcd.login import Credentials
from tests.mesh.etcds import one_version
from tests.support.etcd import Cluster, add_user, enable_users, post, token_of


pytestmark = pytest.mark.interop

PREFIX = b"/derpmesh/v1/"
PASSWORD = "s3cret-of-the-node"
ROOT = "s3cret-of-root"


class Scene(NamedTuple):
    """A cluster with users, and a client who is one."""

    cluster: Cluster
    client: Etcd
    password_file: object


@pytest.fixture
def credentials(tmp_path):
    """Give who we are."""
    path = tmp_path / "password"
    path.write_text(f"{PASSWORD}\n")
    path.chmod(0o600)
    return Credentials("node", path)


@pytest.fixture
def scene(start, connect, credentials) -> Scene:
    """Give a cluster whose tokens end after a second without use."""
    cluster = start(arguments=["--auth-token-ttl", "1", "--bcrypt-cost", "4"])
    add_user(cluster.urls[0], "node", PASSWORD, PREFIX)
    enable_users(cluster.urls[0], ROOT)
    client = connect(cluster.urls, credentials=credentials)
    return Scene(cluster, client, credentials.password_file)


def as_root(scene: Scene, method: str, **payload: object) -> None:
    """Do something that only root may."""
    url = scene.cluster.urls[0]
    post(url, method, payload, token=token_of(url, "root", ROOT))


async def first_batch(client: Etcd, start: int) -> Batch:
    """Take the first batch of a watch that has events."""
    async with aclosing(client.watch(PREFIX, start)) as batches:
        async for batch in batches:
            if batch.events:
                return batch
    raise AssertionError


async def until_token_ends(client: Etcd) -> None:
    """Wait until the server has forgotten the token of a client."""
    token = await client._login.token()
    endpoint = client._ring.current
    while True:
        await asyncio.sleep(2.1)  # a look is a use, so it must not come too early
        try:
            payload = {"key": PREFIX}
            await endpoint.call("/kv/range", payload, token=token, within=5)
        except TokenRefused:
            return


async def test_all_methods_as_a_user(scene):
    """What is below the prefix is ours."""
    client, key = scene.client, PREFIX + b"a"
    lease = await client.lease_grant(60)
    revision = await client.put(key, b"1", lease.id)
    assert await client.txn_put(key, b"2", revision, lease.id) is not None
    assert len((await client.range_prefix(PREFIX)).items) == 1
    assert (await first_batch(client, revision)).events
    assert await client.lease_keepalive(lease.id) == 60
    await client.delete(key)
    await client.lease_revoke(lease.id)


async def test_what_is_not_ours(scene):
    """It is refused for good: code 7, by calls and by watches."""
    with pytest.raises(Refused) as caught:
        await scene.client.put(b"/other", b"")
    assert (caught.value.code, caught.value.transient) == (7, False)
    with pytest.raises(Refused):
        await scene.client.get(b"/other")
    with pytest.raises(Refused) as caught:
        async with aclosing(scene.client.watch(b"/other", 1)) as batches:
            await anext(batches)
    assert caught.value.code == 7


async def test_token_ends(scene):
    """Nobody notices, and there is one login more for all that ask at once."""
    client = scene.client
    revision = await client.put(PREFIX, b"1")
    await until_token_ends(client)
    await asyncio.gather(*[client.get(PREFIX) for _ in range(10)])
    await until_token_ends(client)
    assert (await first_batch(client, revision)).revision == revision


async def test_watch_outlives_its_token(scene):
    """It was let in once."""
    client = scene.client
    revision = await client.put(PREFIX, b"1")
    async with aclosing(client.watch(PREFIX, revision + 1)) as batches:
        await anext(batches)
        await until_token_ends(client)
        await client.put(PREFIX, b"2")
        async with asyncio.timeout(20):
            assert len((await anext(batches)).events) == 1


async def test_server_forgets_all_tokens(scene):
    """They are in its memory; kill -9."""
    [server] = scene.cluster.servers
    revision = await scene.client.put(PREFIX, b"1")
    server.kill()
    await asyncio.to_thread(scene.cluster.start)
    assert (await first_batch(scene.client, revision)).revision == revision
    await scene.client.put(PREFIX, b"2")


async def test_rights_change(scene):
    """Tokens of before are refused as old, and made anew."""
    await scene.client.put(PREFIX, b"1")
    as_root(scene, "/auth/user/add", name="other", password="x")
    await scene.client.put(PREFIX, b"2")


async def test_password_changes(scene):
    """Both sides change it; nobody restarts."""
    await scene.client.put(PREFIX, b"1")
    as_root(scene, "/auth/user/changepw", name="node", password="another")
    with pytest.raises(Unauthenticated):
        await until_refused(scene.client)
    scene.password_file.write_text("another")
    await scene.client.put(PREFIX, b"2")


async def until_refused(client: Etcd) -> None:
    """Ask until the token has ended."""
    await until_token_ends(client)
    await client.get(PREFIX)


async def test_wrong_password(scene, connect, credentials):
    """It is told at the first request."""
    credentials.password_file.write_text("wrong")
    client = connect(scene.cluster.urls, credentials=credentials)
    with pytest.raises(Unauthenticated, match="invalid user ID or password"):
        await client.get(PREFIX)
    with pytest.raises(Unauthenticated):
        async with aclosing(client.watch(PREFIX, 1)) as batches:
            await anext(batches)


@one_version
async def test_nobody(scene, connect):
    """Without a user there is nothing to renew."""
    client = connect(scene.cluster.urls)
    with pytest.raises(TokenRefused):
        await client.get(PREFIX)


async def test_etcd_without_users(connect, shared_etcd, credentials):
    """It is told that the login is of no use."""
    client = connect(shared_etcd.urls, credentials=credentials)
    with pytest.raises(Refused, match="not enabled"):
        await client.get(PREFIX)


@one_version
async def test_nothing_secret_is_logged(scene, caplog):
    """Neither password nor token nor value, at the loudest."""
    caplog.set_level(logging.DEBUG)
    await scene.client.put(PREFIX, b"v4lue")
    await until_token_ends(scene.client)
    await scene.client.get(PREFIX)
    token = await scene.client._login.token()
    shown = caplog.text + repr(vars(scene.client))
    assert "logged in as node" in shown
    assert not any(secret in shown for secret in (PASSWORD, token, "v4lue"))
