"""Relays for the conformance suite: ours, and the original to prove the tests by."""

import contextlib
import copy
import functools
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from derpnode.node import Node
from tests.conformance import programs
from tests.conformance.scene import Place, running
from tests.support.peers import MissingTool


Start = Callable[..., Awaitable[tuple[Node, Place]]]
Relay = Callable[[], Place]

# Every test of one relay is held against the original too: that makes it a fact.
# Where we differ on purpose, a test asks for "ours" alone, and the table says why.
SERVERS = ["ours", pytest.param("derper-1.104", marks=pytest.mark.interop)]


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    """Start nodes in this process, with settings of their own."""
    async with contextlib.AsyncExitStack() as stack:
        count = 0

        async def start(*more: str) -> tuple[Node, Place]:
            nonlocal count
            count += 1
            folder = tmp_path / f"node{count}"
            folder.mkdir()
            return await stack.enter_async_context(running(folder, *more))

        yield start


@pytest.fixture(params=SERVERS)
def server(request: pytest.FixtureRequest) -> str:
    """Whose relay is under test."""
    return request.param


@pytest.fixture
async def place(server: str, derpd: Relay, derper: Relay) -> AsyncIterator[Place]:
    """An open relay on loopback, which other tests use as well."""
    found = copy.deepcopy(derpd() if server == "ours" else derper())
    yield found
    await found.close()


@pytest.fixture(scope="session")
def derpd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Relay]:
    """Our relay, started when it is first asked for."""
    with contextlib.ExitStack() as stack:

        @functools.cache
        def start() -> Place:
            folder = tmp_path_factory.mktemp("derpd")
            stack.callback(_nothing_broke, folder / "derpd.log")
            return stack.enter_context(programs.derpd(folder))[1]

        yield start


def _nothing_broke(log: Path) -> None:
    text = log.read_text()
    assert "Traceback" not in text, text


@pytest.fixture(scope="session")
def derper(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Relay]:
    """Stock derper, started when it is first asked for."""
    with contextlib.ExitStack() as stack:

        @functools.cache
        def start() -> Place:
            try:
                folder = tmp_path_factory.mktemp("derper")
                return stack.enter_context(programs.derper(folder))
            except MissingTool as missing:
                reason = f"NOT RUN against stock derper: {missing}"
                if os.environ.get("CI") == "true":
                    pytest.fail(reason)
                pytest.skip(reason)

        yield start
