"""What a node finds when it asks itself."""

import asyncio
import contextlib

import pytest

from derpnode.plane.contract import Endpoint
from derpnode.server import selfcheck
from derpnode.server.readiness import INTERVAL
from derpnode.server.selfcheck import check_itself
from derpnode.wire.handshake import server_key_frame
from derpnode.wire.keys import NodeKey


KEY = NodeKey(b"k" * 32)
GREETING = server_key_frame(KEY)


@contextlib.asynccontextmanager
async def listener(answer: bytes | None, *, ask: bool = True):
    """Answer every request with this; None answers nothing, and waits."""
    asked: list[bytes] = []
    may_end = asyncio.Event()

    async def serve(reader, writer):
        if ask:
            asked.append(await reader.readuntil(b"\r\n\r\n"))
        if answer is None:
            await may_end.wait()
        else:
            writer.write(answer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield Endpoint(*server.sockets[0].getsockname()), asked
        may_end.set()


async def test_a_relay():
    """ServerKey, by a fast start, is all it wants."""
    async with listener(GREETING + b"more") as (address, asked):
        assert await check_itself(address, KEY, server_name=None) is None
    assert b"GET /derp HTTP/1.1\r\n" in asked[0]
    assert b"Derp-Fast-Start: 1\r\n" in asked[0]


async def test_a_node_without_derp():
    """A probe will do."""
    async with listener(b"HTTP/1.1 200 OK\r\n\r\n") as (address, asked):
        assert await check_itself(address, None, server_name=None) is None
    assert asked[0].startswith(b"GET /derp/probe HTTP/1.1\r\n")


@pytest.mark.parametrize(
    "answer", [server_key_frame(NodeKey(b"x" * 32)), b"HTTP/1.1 500 Oops\r\n" * 9]
)
async def test_another_answer(answer):
    """Is not that of a relay, or of another one."""
    async with listener(answer) as (address, _):
        said = await check_itself(address, KEY, server_name=None)
    assert said == "the first bytes are not those of a relay"


async def test_half_an_answer():
    """The connection ended too soon."""
    async with listener(GREETING[:-1]) as (address, _):
        said = await check_itself(address, KEY, server_name=None)
    assert said is not None
    assert said.startswith("cannot reach itself: ")


async def test_nobody_there():
    """TCP is refused."""
    async with listener(b"") as (address, _):
        pass
    said = await check_itself(address, KEY, server_name=None)
    assert said is not None
    assert said.startswith("cannot reach itself: ")


async def test_no_tls_where_some_should_be():
    """The handshake fails, which is what this is for."""
    async with listener(GREETING, ask=False) as (address, _):
        said = await check_itself(address, KEY, server_name="127.0.0.1")
    assert said is not None
    assert said.startswith("cannot reach itself: ")


async def test_no_answer(monkeypatch):
    """It does not wait for ever."""
    monkeypatch.setattr(selfcheck, "TIMEOUT", 0.1)
    async with listener(None) as (address, _):
        said = await check_itself(address, KEY, server_name=None)
    assert said == "no answer from itself in 0.1 s"


def test_the_time_it_takes():
    """With the time between rounds it is below the 3 s of decisions for STUN."""
    assert selfcheck.TIMEOUT + INTERVAL < 3
