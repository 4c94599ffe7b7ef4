"""Relays on loopback, as good or bad as a test needs them, and links over a plane."""

import asyncio
import contextlib
import itertools
import math
import ssl
import tempfile
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from datetime import UTC, datetime

from derpmesh.link.links import Links
from derpmesh.link.plan import Target
from derpnode.config import Address
from derpnode.plane.contract import ConnectionId, Event, PlaneLimits
from derpnode.plane.python.plane import PythonPlane
from derpnode.relay.relay import Relay
from derpnode.server.journal import Journal
from derpnode.server.switchboard import LinkEvents
from derpnode.wire.frames import FrameType, encode_frame
from derpnode.wire.keys import NodeKey
from derpnode.wire.meshring import MeshRing
from derpnode.wire.payloads import GoneReason, Present, peer_gone, peer_present
from tests.mesh.link.conversation import (
    CLIENT_INFO,
    FIRST_PING,
    GREETING,
    MESH_KEY,
    SERVER_INFO,
    US,
    WATCH,
    frame,
)
from tests.node.plane.certificates import HOST, Issued
from tests.node.relay.recorder import Recorder


PATIENCE = 10.0
LOOPBACK = "127.0.0.1"
TICK = 0.01

Behaviour = Callable[
    [asyncio.StreamReader, asyncio.StreamWriter], Coroutine[object, object, None]
]


async def stay_silent(
    reader: asyncio.StreamReader, _writer: asyncio.StreamWriter
) -> None:
    """Read whatever comes, and answer nothing."""
    while await reader.read(4096):
        pass


async def refuse_login(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """Greet, and hang up on whoever logs in."""
    await reader.readuntil(b"\r\n\r\n")
    writer.write(GREETING)
    await reader.readexactly(len(CLIENT_INFO))


def announcing(*keys: bytes, then: Behaviour = stay_silent) -> Behaviour:
    """Be a relay with some clients; and then, by default, until hung up on."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(GREETING)
        await reader.readexactly(len(CLIENT_INFO))
        writer.write(SERVER_INFO)
        assert await reader.readexactly(len(WATCH)) == WATCH
        for key in keys:
            writer.write(frame(FrameType.PEER_PRESENT, key))
        question = await reader.readexactly(len(FIRST_PING))
        writer.write(encode_frame(FrameType.PONG, question[5:]))
        await then(reader, writer)

    return serve


def flapping(rate: int, seconds: float = math.inf) -> Behaviour:
    """Be a relay whose clients come and go, and hang up in the end."""
    keys = [NodeKey(number.to_bytes(32)) for number in range(1, 101)]
    step = 0.01
    changes = [
        change
        for key in keys
        for change in (peer_present(Present(key)), peer_gone(key, GoneReason.NOT_HERE))
    ]
    burst = b"".join(itertools.islice(itertools.cycle(changes), int(rate * step)))

    async def misbehave(
        _reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        began = time.monotonic()
        for number in itertools.count():
            if (due := number * step) > seconds:
                return
            await asyncio.sleep(began + due - time.monotonic())
            writer.write(burst)
            await writer.drain()

    return announcing(*keys, then=misbehave)


class FakeRelay:
    """Accepts connections and behaves as it is told to.

    Args:
        behave: What it does with each connection.
        leaf: What it proves itself with; None: no TLS.
    """

    def __init__(self, behave: Behaviour, leaf: Issued | None = None) -> None:
        self._behave = behave
        self._leaf = leaf
        self._writers: set[asyncio.StreamWriter] = set()
        self.accepted = 0
        self.port = 0

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncGenerator["FakeRelay", None]:
        """Serve until the block ends, on the port that it had before, if any."""
        tls = server_context(self._leaf) if self._leaf is not None else None
        server = await asyncio.start_server(self._serve, LOOPBACK, self.port, ssl=tls)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            await self._end(server)

    def hang_up(self) -> None:
        """End every connection, as a process does that is killed."""
        for writer in self._writers:
            writer.transport.abort()

    async def _end(self, server: asyncio.Server) -> None:
        """Hang up on everybody; also on those whose handshake is under way."""
        async with asyncio.timeout(PATIENCE):
            self.hang_up()
            while _connections(server):
                await asyncio.sleep(TICK / 10)
                self.hang_up()
            await server.wait_closed()

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.accepted += 1
        self._writers.add(writer)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await self._behave(reader, writer)
        writer.close()
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            await writer.wait_closed()
        self._writers.discard(writer)

    def target(self, name: str, **about: object) -> Target:
        """Name this relay as a target of links."""
        plain = {
            "host": HOST,
            "port": self.port,
            "dial": Address(LOOPBACK, self.port),
            "tls": self._leaf is not None,
        }
        return Target(name, **(plain | about))


def _connections(server: asyncio.Server) -> int:
    """Count those that are open; the name is another since Python 3.13."""
    count: int = getattr(server, "_active_count", 0)
    return count or len(getattr(server, "_clients", ()))


def server_context(leaf: Issued) -> ssl.SSLContext:
    """Make what a relay proves itself with."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.NamedTemporaryFile() as file:
        file.write(leaf.key_pem + leaf.pem)
        file.flush()
        context.load_cert_chain(file.name)
    return context


class RealLinks:
    """A node's links over a real plane; what its relay commands is recorded."""

    def __init__(self, tasks: asyncio.TaskGroup) -> None:
        self.routes: dict[ConnectionId, LinkEvents] = {}
        self.told = Recorder()
        self.relay = Relay(self.told, US.public)
        self.plane = PythonPlane(
            self._events, PlaneLimits(), asyncio.get_running_loop()
        )
        self.journal = Journal(lambda: datetime.now(UTC))
        self.links = Links(
            US,
            lambda: MeshRing(MESH_KEY),
            self.plane,
            self.relay,
            routes=self.routes,
            clock=time.monotonic,
            spawn=lambda job: self._jobs.append(tasks.create_task(job)),
            journal=self.journal,
        )
        self._jobs = [tasks.create_task(self._tick())]
        self._news = asyncio.Event()

    def _events(self, batch: Sequence[Event]) -> None:
        for event in batch:
            self.routes[event.id].event(event)
        self._news.set()

    async def _tick(self) -> None:
        while True:
            self.links.tick()
            self._news.set()
            await asyncio.sleep(TICK)

    def want(self, *targets: Target) -> None:
        """Have links to these, and no others."""
        self.links.apply({wanted.name: wanted for wanted in targets})

    def status(self, name: str):
        """The status of one link."""
        return next(one for one in self.links.statuses() if one.peer == name)

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait until events or time have made a condition true."""
        async with asyncio.timeout(PATIENCE):
            while not condition():
                self._news.clear()
                await self._news.wait()

    async def until_up(self, name: str) -> None:
        """Wait until a link is up, and has told who is there."""
        await self.until(lambda: self.status(name).round_trip is not None)

    async def error(self, name: str) -> str:
        """Wait until a link cannot be had; say why."""
        await self.until(lambda: self.status(name).error)
        return self.status(name).error

    async def end(self) -> None:
        """Give everything back."""
        self.links.close()
        self.plane.shutdown()
        for job in self._jobs:
            job.cancel()
