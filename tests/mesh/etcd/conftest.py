"""Clients, servers that follow a script, and real ones where etcd is installed."""

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from derpmesh.etcd.client import Etcd, Patience
from tests.mesh.etcd.scripted import ScriptedEtcd
from tests.mesh.etcds import Etcds
from tests.support.etcd import Cluster, ServerFiles, Version, cluster


SHORT = Patience(attempt=1.0, deadline=2.0)

Connect = Callable[..., Etcd]
Start = Callable[..., Cluster]


@pytest.fixture
async def connect() -> AsyncIterator[Connect]:
    """Give a function that makes clients; they are closed afterwards."""
    async with AsyncExitStack() as stack:

        def make(urls: Sequence[str] | str, **settings: object) -> Etcd:
            made = Etcd([urls] if isinstance(urls, str) else urls, **settings)
            stack.push_async_callback(made.close)
            return made

        yield make


@pytest.fixture
async def script() -> AsyncIterator[ScriptedEtcd]:
    """Give a server that follows a script."""
    async with ScriptedEtcd().running() as running:
        yield running


@pytest.fixture
async def second_script() -> AsyncIterator[ScriptedEtcd]:
    """Give another one."""
    async with ScriptedEtcd().running() as running:
        yield running


@pytest.fixture
def shared_etcd(etcd_version: Version, etcds: Etcds) -> Cluster:
    """Give an etcd of each version, for tests that leave it as it was."""
    return etcds.plain(etcd_version)


@pytest.fixture
def prefix(request: pytest.FixtureRequest) -> bytes:
    """Give keys that no other test has."""
    return f"/{request.node.name}/".encode()


@pytest.fixture
def etcd(connect: Connect, shared_etcd: Cluster) -> Etcd:
    """Give a client of the shared server."""
    return connect(shared_etcd.urls)


@pytest.fixture
def start(etcd_version: Version, tmp_path: Path) -> Iterator[Start]:
    """Give a function that starts clusters; they are killed afterwards."""
    started: list[Cluster] = []

    def run(
        count: int = 1,
        *,
        tls: ServerFiles | None = None,
        context: object = None,
        arguments: Sequence[str] = (),
    ) -> Cluster:
        made = cluster(
            tmp_path / f"cluster{len(started)}",
            count,
            version=etcd_version,
            tls=tls,
            arguments=arguments,
        )
        started.append(made)
        return made.start(context)

    yield run
    for one in started:
        one.kill()
