"""Real etcd servers for what is recorded there, where etcd is installed."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from derpmesh.etcd.client import Etcd
from derpmesh.membership.keys import Keys
from tests.mesh.etcds import Etcds
from tests.mesh.membership.registries import SHORT, own_keys
from tests.support.etcd import Cluster


@pytest.fixture
def shared_etcd(etcds: Etcds) -> Cluster:
    """Give an etcd for tests that leave it as it was, but for their keys."""
    return etcds.plain("debian")


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    """Give keys that no other test has."""
    return own_keys(tmp_path)


@pytest.fixture
async def etcd(shared_etcd: Cluster) -> AsyncIterator[Etcd]:
    """Give a client of the shared server."""
    client = Etcd(shared_etcd.urls, patience=SHORT)
    yield client
    await client.close()
