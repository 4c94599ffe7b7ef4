"""A client that is logged in, and the shortest way to one."""

import asyncio
import contextlib
import os
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass

from derpnode.client.errors import Ended, RelayFailed
from derpnode.client.messages import Message, parse_message
from derpnode.client.relay import TIMEOUT, Relay
from derpnode.client.stream import Stream
from derpnode.client.tls import ClientTls
from derpnode.wire import payloads
from derpnode.wire.frames import MAX_PACKET
from derpnode.wire.handshake import ClientInfo, client_info_frame
from derpnode.wire.keys import NONCE_SIZE, MeshKey, NodeKey, PrivateKey, short_key


@dataclass(frozen=True, eq=False)
class Client:
    """A client that is logged in. Every method may raise `RelayFailed`."""

    stream: Stream
    key: NodeKey
    """Ours."""
    server_key: NodeKey
    server_info: Mapping[str, object]
    """What the server said of itself; limits, if it has some."""

    async def recv(self) -> Message:
        """Wait for the next message, for as long as it takes."""
        try:
            return parse_message(*await self.stream.frame())
        except Ended as exc:
            raise self._failed(exc.reason) from exc

    async def send(self, destination: NodeKey, data: bytes) -> None:
        """Send a packet, without knowing whether it arrives."""
        if len(data) > MAX_PACKET:
            reason = f"a packet of {len(data)} bytes, the limit is {MAX_PACKET}"
            raise RelayFailed(short_key(destination), reason, "send it in pieces")
        await self._write(payloads.send_packet(destination, data))

    async def ping(self, *, within: float = 5.0) -> float:
        """Measure the round trip to the node, in seconds."""
        loop = asyncio.get_running_loop()
        token = os.urandom(8)
        answered = self.stream.pongs[token] = loop.create_future()
        started = loop.time()
        try:
            await self._write(payloads.ping(token))
            async with asyncio.timeout(within):
                await answered
        except (TimeoutError, Ended) as exc:
            hangs = f"no pong in {within:.3g} s"
            raise self._failed(exc.reason if isinstance(exc, Ended) else hangs) from exc
        finally:
            del self.stream.pongs[token]
        return loop.time() - started

    async def note_preferred(self, preferred: bool) -> None:
        """Tell the node whether it is our home."""
        await self._write(payloads.note_preferred(preferred))

    async def watch(self) -> None:
        """Ask for `PeerPresent` and `PeerGone` of everybody; needs the mesh key."""
        await self._write(payloads.WATCH_CONNS)

    async def close_peer(self, key: NodeKey) -> None:
        """Have all connections of a client closed; needs the mesh key."""
        await self._write(payloads.close_peer(key))

    async def _write(self, frame: bytes) -> None:
        try:
            await self.stream.write(frame)
        except Ended as exc:
            raise self._failed(exc.reason) from exc

    def _failed(self, reason: str) -> RelayFailed:
        return RelayFailed(self.stream.where, reason, "connect again")


@contextlib.asynccontextmanager
async def connect(  # noqa: PLR0913 - each is a choice of its own
    host: str,
    port: int,
    *,
    private: PrivateKey,
    tls: ClientTls | None,
    addresses: Sequence[str] = (),
    mesh_key: MeshKey | None = None,
    can_ack_pings: bool = True,
    is_prober: bool = False,
    app_name: str = "",
    ideal_node: str = "",
    fast_start: bool = True,
    timeout: float = TIMEOUT,  # noqa: ASYNC109 - raises an error of ours
) -> AsyncGenerator[Client, None]:
    """Log in to a server; the connection ends with the block.

    Args:
        host: DNS name or IP address.
        port: TCP port.
        private: Who to be.
        tls: How to check the certificate; None dials plain HTTP.
        addresses: IP addresses to dial instead of looking the host up.
        mesh_key: Proves the mesh right.
        can_ack_pings: Say that we answer pings, and do.
        is_prober: Say that we only measure.
        app_name: What to call ourselves.
        ideal_node: Name of the node that we would rather be on; empty: this one.
        fast_start: Save a round trip, where the server offers it.
        timeout: Seconds until the login must be over.

    Raises:
        ClientError: A layer failed; there is a class for each.
    """
    info = ClientInfo(
        mesh_key=mesh_key.secret if mesh_key is not None else None,
        can_ack_pings=can_ack_pings,
        is_prober=is_prober,
        app_name=app_name,
    )
    clock = asyncio.get_running_loop().time
    deadline = clock() + timeout
    stream = await Relay(host, port, tls, addresses).open(within=timeout)
    stream.ideal_node = ideal_node
    try:
        within = max(deadline - clock(), 0.0)
        yield await introduce(stream, private, info, fast_start, within)
    finally:
        await stream.close()


async def introduce(
    stream: Stream,
    private: PrivateKey,
    info: ClientInfo,
    fast_start: bool,
    within: float,
) -> Client:
    """Go from a secured stream to a login, by a fast start where there is one."""
    clock = asyncio.get_running_loop().time
    deadline = clock() + within
    stream.answers_pings = info.can_ack_pings
    meta = stream.certificates.fast_start_key if stream.certificates else None
    early = b""
    if fast_start and meta is not None:
        early = hello(info, private, meta)
    await stream.upgrade(early, within=within)
    key = await stream.server_key(within=max(deadline - clock(), 0.0))
    late = b"" if early else hello(info, private, key)
    said = await stream.login(private, key, late, within=max(deadline - clock(), 0.0))
    return Client(stream, private.public, key, said)


def hello(info: ClientInfo, private: PrivateKey, server_key: NodeKey) -> bytes:
    """Make the ClientInfo for `Stream.upgrade` or `Stream.login`."""
    return client_info_frame(info, private, server_key, os.urandom(NONCE_SIZE))
