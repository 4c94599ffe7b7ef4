"""Nodes to report on: one that was only built, one that runs, and clients of it."""

import asyncio
import os
import re
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from derpnode.config import NodeConfig
from derpnode.errors import ConfigError
from derpnode.node import Node
from derpnode.relay.relay import Client
from derpnode.server.admin import AdminServer
from derpnode.server.exposition import exposition
from derpnode.server.metrics import EventLoopLag, make_registry
from derpnode.server.servicemanager import ServiceManager
from derpnode.wire.frames import HEADER, HEADER_SIZE
from derpnode.wire.handshake import ClientInfo, client_info_frame, parse_server_key
from derpnode.wire.keys import NONCE_SIZE, NodeKey, PrivateKey


UPGRADE = (
    b"GET /derp HTTP/1.1\r\nHost: node\r\nUpgrade: DERP\r\nConnection: Upgrade\r\n"
    b"Derp-Fast-Start: 1\r\n\r\n"
)


def node_config(state_dir: Path, **sections: object) -> NodeConfig:
    """Make the settings of a node on loopback, on ports of the kernel's choice."""
    tree: dict[str, object] = {
        "state_dir": state_dir,
        "derp": {"listen": ["127.0.0.1:0"]},
        "http": {"listen": ["127.0.0.2:0"]},
        "stun": {"listen": ["127.0.0.1:0"]},
        "admin": {"listen": ["127.0.0.1:0"]},
        "admission": {"mode": "open"},
        "drain_grace": 0.5,
    }
    return NodeConfig.model_validate(tree | sections)


@asynccontextmanager
async def built(config: NodeConfig) -> AsyncIterator[Node]:
    """Build a node that does not run; its counters can be set."""
    node = Node(config)
    try:
        yield node
    finally:
        node.plane.shutdown()
        await node.admission.close()


@asynccontextmanager
async def running(
    config: NodeConfig, manager: ServiceManager | None = None
) -> AsyncIterator[Node]:
    """Run a node until it serves; stop it at once in the end."""
    node = Node(config, manager)
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(node.run())
        async with asyncio.timeout(10):
            while node.state != "serving" and not task.done():  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        try:
            yield node
        finally:
            node.stop()
            node.stop()


@asynccontextmanager
async def logged_in(
    node: Node, private: PrivateKey, **info: object
) -> AsyncIterator[asyncio.StreamReader]:
    """Log a client in; its connection ends with the block."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    host, _, port = node.listeners()["derp"][0].rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port), ssl=context)
    try:
        writer.write(UPGRADE)
        server = parse_server_key(await next_frame(reader))
        nonce = os.urandom(NONCE_SIZE)
        writer.write(client_info_frame(ClientInfo(**info), private, server, nonce))
        await next_frame(reader)
        yield reader
    finally:
        writer.transport.abort()


async def next_frame(reader: asyncio.StreamReader) -> bytes:
    """Give the payload of the next frame."""
    _, size = HEADER.unpack(await reader.readexactly(HEADER_SIZE))
    return await reader.readexactly(size)


@asynccontextmanager
async def serving(config: NodeConfig) -> AsyncIterator[AdminServer]:
    """Start an admin listener for a node that was only built."""
    async with built(config) as node:
        server = AdminServer(node)
        await server.start()
        try:
            yield server
        finally:
            await server.close()


async def refused(config: NodeConfig) -> ConfigError:
    """Start a listener that cannot; nothing is left of it."""
    async with built(config) as node:
        server = AdminServer(node)
        with pytest.raises(ConfigError) as caught:
            await server.start()
        assert server.addresses == []
        await server.close()
    return caught.value


@asynccontextmanager
async def admin_client(node: Node) -> AsyncIterator[aiohttp.ClientSession]:
    """Speak to a node's first TCP admin address."""
    url = node.listeners()["admin"][1]
    async with aiohttp.ClientSession(url) as session:
        yield session


def clients(count: int) -> Iterator[Client]:
    """Yield clients with keys and addresses of their own, a second apart."""
    for number in range(1, count + 1):
        key = NodeKey(number.to_bytes(32))
        host = f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"
        yield Client(
            connection=number, key=key, host=host, port=1000, since=float(number)
        )


async def status_of(url: str, path: str, authorization: str = "") -> int:
    """Give the status of an answer, which has no banner."""
    headers = {"Authorization": authorization} if authorization else {}
    async with (
        aiohttp.ClientSession() as http,
        http.get(url + path, headers=headers, ssl=False) as answer,
    ):
        assert "Server" not in answer.headers
        await answer.read()
        return answer.status


def scrape(node: Node, lag: EventLoopLag | None = None) -> str:
    """Give what `/metrics` says of a node."""
    return exposition(make_registry(node, lag or EventLoopLag()).collect())


def types(text: str) -> dict[str, str]:
    """Give the type of each family by name."""
    return dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE))


def rows(text: str, name: str) -> dict[str, float]:
    """Give the samples of a family by the text of their labels, in their order."""
    found = re.findall(rf"^{name}(?:\{{(.*)\}})? (\S+)$", text, re.MULTILINE)
    return {labels: float(value) for labels, value in found}
