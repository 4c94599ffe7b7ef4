"""Relays for the conformance suite."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from derpnode.node import Node
from tests.conformance.scene import Place, running


Start = Callable[..., Awaitable[tuple[Node, Place]]]


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
async def place(request, tmp_path) -> AsyncIterator[Place]:
    """An open relay on loopback."""
    import os, json
    from derpnode.wire.keys import PrivateKey
    if os.environ.get("AGAINST"):
        text = json.load(open("/tmp/cw/derper/derper.key"))["PrivateKey"]
        place = Place(24443, 24480, 24478, PrivateKey.parse(text).public)
        yield place
        await place.close()
        return
    start = request.getfixturevalue("start")
    yield (await start())[1]
