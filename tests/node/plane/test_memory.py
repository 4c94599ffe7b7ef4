"""What an idle connection costs in memory, measured in a process of its own."""

import asyncio
import contextlib
import os
import resource
import sys
from pathlib import Path

import pytest

from derpnode.plane.contract import Endpoint
from tests.node.plane.certificates import TRUSTING
from tests.node.plane.peer import Peer
from tests.node.plane.planes import PLANES
from tests.node.plane.scene import FIRST


ROOT = Path(__file__).parents[3]
WARM = 200
"""Connections made before it is measured: caches and arenas are not theirs."""

AT_ONCE = 25


class Server:
    """A plane in another process; see `idle`."""

    def __init__(self, process: asyncio.subprocess.Process, port: int) -> None:
        self._process = process
        self.address = Endpoint("127.0.0.1", port)

    async def ask(self) -> list[int]:
        """Give its connections, those that are logged in, and its memory in KiB."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(b"\n")
        return [int(word) for word in (await self._process.stdout.readline()).split()]

    async def memory(self, connections: int, logged_in: int) -> int:
        """Wait until it has so many connections; give its memory in KiB."""
        async with asyncio.timeout(30):
            while True:
                *found, memory = await self.ask()
                if found == [connections, logged_in]:
                    return memory
                await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def serving(plane: str, transport: str):
    """Start a server, and stop it."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "node")])
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "tests.node.plane.idle", plane, transport),
        env={**os.environ, "PYTHONPATH": path},
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield Server(process, int(await process.stdout.readline()))
    finally:
        process.stdin.close()
        await process.wait()


@pytest.fixture
def crowd():
    """Peers in any number, closed at the end."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    peers: list[Peer] = []
    yield peers
    for peer in peers:
        peer.close()
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def report(capsys, what: str, kib: float) -> None:
    """Say a figure where it is seen."""
    with capsys.disabled():
        sys.stdout.write(f"\n{what}: {kib:.1f} KiB\n")


@pytest.mark.parametrize("plane", PLANES)
async def test_silent_connection(plane, crowd, capsys):
    """Whoever only connects costs at most 4 KiB, though the port is for TLS."""
    count = 2000
    async with serving(plane, "tls") as server:
        crowd += [Peer.dial(server.address) for _ in range(WARM)]
        before = await server.memory(WARM, 0)
        crowd += [Peer.dial(server.address) for _ in range(count)]
        after = await server.memory(WARM + count, 0)
    each = (after - before) / count
    report(capsys, f"{plane}: a silent TCP connection", each)
    assert each <= 4


@pytest.mark.parametrize("plane", PLANES)
@pytest.mark.parametrize(
    ("transport", "most"), [("tls", 60), ("plain", 16)], ids=["tls", "plain"]
)
async def test_idle_client(plane, transport, most, crowd, capsys):
    """A client that is logged in and says nothing costs at most 60 KiB over TLS."""
    count = 1000

    async def join() -> None:
        peer = Peer.dial(server.address)
        crowd.append(peer)
        if transport == "tls":
            await peer.shake(TRUSTING)
        await peer.send(FIRST)

    async def join_all(number: int) -> None:
        for _ in range(0, number, AT_ONCE):
            await asyncio.gather(*(join() for _ in range(AT_ONCE)))

    async with serving(plane, transport) as server:
        await join_all(WARM)
        before = await server.memory(WARM, WARM)
        await join_all(count)
        after = await server.memory(WARM + count, WARM + count)
    each = (after - before) / count
    report(capsys, f"{plane}: an idle client, {transport}", each)
    assert each <= most
