"""Real etcd servers for what is recorded there, where etcd is installed."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from derpmesh.etcd.client import Etcd
from derpmesh.membership.keys import Keys
from tests.mesh.membership.registries import SHORT
from tests.mesh.membership.scene import REGION
from tests.support.etcd import Cluster, cluster, require_etcd
from tests.support.peers import MissingTool


@pytest.fixture(scope="session")
def shared_etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Run one etcd for all tests that leave it as it was, but for their keys."""
    try:
        require_etcd()
    except MissingTool as missing:
        pytest.skip(str(missing))
    found = cluster(tmp_path_factory.mktemp("etcd"))
    try:
        yield found.start()
    finally:
        found.kill()


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    """Give keys that no other test has."""
    return Keys(f"/{tmp_path.parent.name}/{tmp_path.name}", REGION.id)


@pytest.fixture
async def etcd(shared_etcd: Cluster) -> AsyncIterator[Etcd]:
    """Give a client of the shared server."""
    client = Etcd(shared_etcd.urls, patience=SHORT)
    yield client
    await client.close()
