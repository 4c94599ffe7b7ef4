"""Relays for the conformance suite: ours, and the original to prove the tests by."""

import contextlib
import functools
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from derpnode.node import Node
from derpnode.wire.keys import parse_identity
from tests.conformance.scene import Place, running
from tests.interop.region import run_region
from tests.support.peers import MissingTool


Start = Callable[..., Awaitable[tuple[Node, Place]]]

# Every test of one relay is held against the original too: that makes it a fact.
# Where we differ on purpose, a test asks for "ours" alone, and the table says why.
SERVERS = ["ours", pytest.param("derper-1.104", marks=pytest.mark.interop)]


@pytest.fixture(params=SERVERS)
def server(request: pytest.FixtureRequest) -> str:
    """Whose relay is under test."""
    return request.param


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    """Start nodes with settings of their own."""
    async with contextlib.AsyncExitStack() as stack:
        count = 0

        async def start(*settings: str) -> tuple[Node, Place]:
            nonlocal count
            count += 1
            folder = tmp_path / f"node{count}"
            folder.mkdir()
            return await stack.enter_async_context(running(folder, *settings))

        yield start


@pytest.fixture
async def place(
    server: str, start: Start, derper: Callable[[], Place]
) -> AsyncIterator[Place]:
    """An open relay on loopback."""
    if server == "ours":
        yield (await start())[1]
        return
    found = derper()
    yield found
    await found.close()


@pytest.fixture(scope="session")
def derper(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Callable[[], Place]]:
    """Stock derper, started when it is first asked for."""
    with contextlib.ExitStack() as stack:

        @functools.cache
        def where() -> tuple[int, int, int, bytes, bytes]:
            folder = tmp_path_factory.mktemp("derper")
            region = stack.enter_context(run_region("derper-1.104", folder, "pinned"))
            identity = parse_identity((folder / "derper.key").read_text())
            mesh_key = Path(region.demo["mesh_key_file"]).read_text()
            ports = (region.node[f"{name}_port"] for name in ("derp", "http", "stun"))
            return *ports, identity.public, bytes.fromhex(mesh_key)

        def start() -> Place:
            try:
                return Place(*where())
            except MissingTool as missing:
                reason = f"NOT RUN against stock derper: {missing}"
                if os.environ.get("CI") == "true":
                    pytest.fail(reason)
                pytest.skip(reason)

        yield start
