"""A plane, the sink above it, and the peers around it."""

import asyncio
import random
import socket
import ssl
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TypeVar

from derpnode.plane.contract import (
    AcceptLimits,
    ClientTls,
    Closed,
    Connected,
    Endpoint,
    Flags,
    ListenerId,
    Opened,
    PlaneLimits,
    ReceiveLimit,
    RouteKind,
    ServerTls,
)
from derpnode.wire.frames import FrameType, encode_frame
from derpnode.wire.keys import NodeKey
from tests.node.plane.certificates import TRUSTING, server_tls
from tests.node.plane.peer import Peer
from tests.node.plane.planes import Factory
from tests.node.plane.recorder import PATIENCE, Recorder


T = TypeVar("T")

A = NodeKey(b"\xa1" * 32)
B = NodeKey(b"\xb2" * 32)
C = NodeKey(b"\xc3" * 32)
M = NodeKey(b"\x3e" * 32)  # a mesh peer's
ZERO = NodeKey(bytes(32))

LOOPBACK = Endpoint("127.0.0.1", 0)
NO_LIMIT = ReceiveLimit()

FIRST = b"."
"""What joins before its frames: the byte that makes the plane open it."""

FILLER = encode_frame(FrameType.HEALTH, bytes(1 << 20))
"""A frame for a receiver that is to be blocked; see `Scene.block`."""


def open_files() -> int:
    """Count the descriptors of this process."""
    return len(list(Path("/proc/self/fd").iterdir()))


class Scene:
    """One plane at work."""

    def __init__(
        self,
        make: Factory,
        limits: PlaneLimits,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self.recorder = Recorder()
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(
            lambda _, context: self.recorder.faults.append(str(context))
        )
        self.plane = make(self.recorder, limits, loop, uniform=uniform)
        self.peers: list[Peer] = []
        self._listening: dict[bool, Endpoint] = {}
        self._tasks: list[asyncio.Task[object]] = []

    @property
    def counters(self):
        """What the plane counted so far."""
        return self.plane.counters

    def listen(
        self, tls: ServerTls | None = None, at: Endpoint = LOOPBACK, **limits
    ) -> tuple[ListenerId, Endpoint]:
        """Open a listener with some limits."""
        return self.plane.listen(at, tls, AcceptLimits(**limits))

    def dial(self, address: Endpoint | None = None, *, tls: bool = False) -> Peer:
        """Connect and say nothing; by default to a listener without limits."""
        peer = Peer.dial(address or self.address(tls=tls))
        self.peers.append(peer)
        return peer

    def address(self, *, tls: bool = False) -> Endpoint:
        """Give the address of a listener without limits."""
        if tls not in self._listening:
            self._listening[tls] = self.listen(server_tls() if tls else None)[1]
        return self._listening[tls]

    async def silent(self, *, tls: bool = False) -> Peer:
        """Connect, up to where the first byte may be sent."""
        peer = self.dial(tls=tls)
        if tls:
            await peer.shake(TRUSTING)
        return peer

    async def opened(self, peer: Peer) -> Opened:
        """Wait until the plane has opened the connection of a peer."""
        local = peer.local
        event = await self.recorder.until(
            lambda: next((e for e in self.recorder.of(Opened) if e.peer == local), None)
        )
        peer.id = event.id
        return event

    async def guest(
        self,
        first: bytes = FIRST,
        address: Endpoint | None = None,
        *,
        tls: bool = False,
        context: ssl.SSLContext = TRUSTING,
    ) -> Peer:
        """Connect and say something: a stream that is open."""
        peer = self.dial(address, tls=tls)
        if tls:
            await peer.shake(context)
        await peer.send(first)
        await self.opened(peer)
        await self.recorder.until(
            lambda: len(self.recorder.stream(peer.id)) >= len(first)
        )
        return peer

    async def client(
        self,
        key: NodeKey,
        flags: Flags = Flags.NONE,
        limit: ReceiveLimit = NO_LIMIT,
        *,
        tls: bool = False,
    ) -> Peer:
        """Join with a key: frames both ways, and packets for the key."""
        peer = await self.guest(tls=tls)
        self.plane.set_route(key, peer.id, RouteKind.CLIENT)
        self.plane.attach(peer.id, key, len(FIRST), flags, limit)
        return peer

    async def mesh(self) -> Peer:
        """Join as another node that has dialled us, and may forward."""
        return await self.client(M, Flags.MESH)

    async def dialled(
        self,
        tls: ClientTls | None = None,
        at: Endpoint = LOOPBACK,
        *,
        patience: float = PATIENCE,
        closed: str = "",
    ) -> Peer:
        """Let the plane dial; give the other end, accepted and no more.

        Args:
            tls: How it dials.
            at: Where to listen.
            patience: How long it may take.
            closed: Why it closes the connection again, at once; by default it does not.
        """
        loop = asyncio.get_running_loop()
        family = socket.AF_INET6 if ":" in at.host else socket.AF_INET
        with socket.create_server(at, family=family) as server:
            server.setblocking(False)
            address = Endpoint(*server.getsockname()[:2])
            connection = self.plane.connect(address, tls, patience)
            if closed:
                self.plane.close(connection, closed)
            sock, _ = await loop.sock_accept(server)
        peer = Peer(sock)
        peer.id = connection
        self.peers.append(peer)
        return peer

    async def link(self, *keys: NodeKey) -> Peer:
        """Let the plane dial another node, that has some keys."""
        peer = await self.dialled()
        await self.recorder.next(Connected, peer.id)
        self.plane.attach(peer.id, M, 0, Flags.LINK | Flags.MESH, NO_LIMIT)
        for key in keys:
            self.plane.set_route(key, peer.id, RouteKind.LINK)
        return peer

    async def above(self, key: NodeKey) -> Peer:
        """Join with a key and stay a stream."""
        peer = await self.guest()
        self.plane.mark(peer.id, Flags.SETTLED)
        self.plane.set_route(key, peer.id, RouteKind.ABOVE)
        return peer

    def block(self, peer: Peer, megabytes: int = 8) -> bytes:
        """Send a peer, that does not read, more than its socket takes.

        Returns:
            What it will have to read first.
        """
        data = FILLER * megabytes
        self.plane.send(peer.id, data)
        return data

    async def blocked(self, *peers: Peer) -> None:
        """Block peers, and wait until the plane knows that they are, or cut them."""
        for peer in peers:
            before = self.counters.queued_bytes
            self.block(peer)
            await self.until(
                lambda peer=peer, before=before: (
                    self.counters.queued_bytes > before
                    or self.recorder.of(Closed, peer.id)
                )
            )

    async def unblocked(self, peer: Peer, megabytes: int = 8) -> None:
        """Read what blocked a peer."""
        for frame in await peer.frames(megabytes):
            assert frame[0] == FrameType.HEALTH

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait until counters, which tell nobody, have made a condition true."""
        async with asyncio.timeout(PATIENCE):
            while not condition():  # noqa: ASYNC110 - a counter has no event
                await asyncio.sleep(0.001)

    def spawn(self, work: Coroutine[object, object, T]) -> "asyncio.Task[T]":
        """Let something go on beside the test; what is left is cancelled at its end."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.append(task)
        return task

    async def __aenter__(self) -> "Scene":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.end()

    async def end(self) -> None:
        """Stop, and see that the events were in order and all bytes accounted for."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for peer in self.peers:
            peer.close()
        self.plane.shutdown()
        assert self.recorder.faults == []
        assert self.counters.queued_bytes == 0
