"""A relay on loopback, and clients that say what they are told to, byte by byte.

Nothing here knows a relay from the inside: `Place` needs its ports and its keys, so
that the same tests can be held against any other server.
"""

import asyncio
import contextlib
import hashlib
import os
import ssl
import struct
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from derpnode.config import load_config
from derpnode.node import Node
from derpnode.wire.frames import HEADER, FrameType, encode_frame
from derpnode.wire.handshake import (
    ClientInfo,
    client_info_frame,
    open_server_info,
    server_key_frame,
)
from derpnode.wire.keys import NONCE_SIZE, NodeKey, PrivateKey, untyped_text
from derpnode.wire.payloads import WATCH_CONNS, parse_peer_present, ping, send_packet


PATIENCE = 10.0
"""Seconds for whatever must happen at once, on a machine that is busy."""

LOOPBACK = "127.0.0.1"
MESH_KEY = bytes.fromhex("d1" * 32)

UPGRADE = (
    b"GET /derp HTTP/1.1\r\nHost: x\r\nUpgrade: DERP\r\nConnection: Upgrade\r\n\r\n"
)
FAST_START = UPGRADE.replace(b"\r\n\r\n", b"\r\nDerp-Fast-Start: 1\r\n\r\n")

# What looks like path discovery, and what does not. Source: protocol.md 1.
DISCO = bytes.fromhex("5453f09f92ac") + bytes(56)

Frame = tuple[int, bytes]


def private_key(name: str) -> PrivateKey:
    """Make the key that belongs to a name."""
    return PrivateKey.from_seed(hashlib.sha256(name.encode()).digest())


def unverified() -> ssl.SSLContext:
    """Trust everybody, as whoever tests a pinned certificate by hand."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


class Peer:
    """One end of a connection. Whatever waits has a time limit."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.reader = reader
        self.writer = writer

    async def say(self, *data: bytes) -> None:
        """Send bytes, in one piece."""
        self.writer.write(b"".join(data))
        await self.writer.drain()

    async def take(self, size: int) -> bytes:
        """Wait for so many bytes."""
        async with asyncio.timeout(PATIENCE):
            return await self.reader.readexactly(size)

    async def head(self) -> bytes:
        """Wait for an HTTP head."""
        async with asyncio.timeout(PATIENCE):
            return await self.reader.readuntil(b"\r\n\r\n")

    async def frame(self) -> Frame:
        """Wait for a frame."""
        kind, size = HEADER.unpack(await self.take(HEADER.size))
        return kind, await self.take(size)

    async def until(self, wanted: int) -> bytes:
        """Wait for a frame of one kind; others are skipped."""
        while True:
            kind, payload = await self.frame()
            if kind == wanted:
                return payload

    async def rest(self, patience: float = PATIENCE) -> bytes:
        """Wait for the end of the connection; return what came before it."""
        received = bytearray()
        async with asyncio.timeout(patience):
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                while chunk := await self.reader.read(1 << 16):
                    received += chunk
        return bytes(received)

    async def sync(self) -> list[Frame]:
        """Wait until the server did all it was told; return what came meanwhile.

        The first Pong may overtake what the server says of its own accord about
        what came before the ping; the second does not.
        """
        frames: list[Frame] = []
        for mark in (b"barrier1", b"barrier2"):
            await self.say(ping(mark))
            while (frame := await self.frame()) != (FrameType.PONG, mark):
                frames.append(frame)
        return frames

    def leave(self) -> None:
        """Be gone, without a word."""
        self.writer.transport.abort()


class Client(Peer):
    """A peer that has logged in."""

    def __init__(self, peer: Peer, private: PrivateKey) -> None:
        super().__init__(peer.reader, peer.writer)
        self.private = private
        self.key = private.public

    async def send(self, to: "Client | NodeKey", data: bytes) -> None:
        """Send a packet."""
        key = to.key if isinstance(to, Client) else to
        await self.say(send_packet(key, data))

    async def packet(self) -> tuple[NodeKey, bytes]:
        """Wait for a packet; other frames are skipped."""
        payload = await self.until(FrameType.RECV_PACKET)
        return NodeKey(payload[:32]), payload[32:]

    async def watch(self) -> list[bytes]:
        """Begin to watch; return the payloads of the flood."""
        await self.say(WATCH_CONNS)
        frames = await self.sync()
        return [data for kind, data in frames if kind == FrameType.PEER_PRESENT]


@dataclass
class Answer:
    """An HTTP answer."""

    status: int
    headers: dict[str, str]
    body: bytes


def parse_answer(head: bytes) -> tuple[int, dict[str, str]]:
    """Read the head of an answer; names in lower case."""
    first, *lines = head.decode("latin-1").split("\r\n")[:-2]
    pairs = (line.split(": ", 1) for line in lines)
    return int(first.split(" ")[1]), {name.lower(): value for name, value in pairs}


@dataclass
class Place:
    """A running relay, as its clients know it."""

    derp_port: int
    http_port: int
    stun_port: int
    server_key: NodeKey
    mesh_key: bytes = MESH_KEY
    tls: bool = True
    source: str = LOOPBACK
    """Where its clients come from."""

    peers: list[Peer] = field(default_factory=list)

    async def dial(
        self,
        context: ssl.SSLContext | None = None,
        *,
        port: int = 0,
        server_name: str | None = None,
        plain: bool = False,
    ) -> Peer:
        """Connect, through TLS."""
        secured = None if plain or not self.tls else context or unverified()
        name = (server_name or "") if secured else None
        async with asyncio.timeout(PATIENCE):
            streams = await asyncio.open_connection(
                LOOPBACK,
                port or self.derp_port,
                ssl=secured,
                server_hostname=name,
                local_addr=(self.source, 0),
            )
        peer = Peer(*streams)
        self.peers.append(peer)
        return peer

    async def dial_plain(self, port: int = 0) -> Peer:
        """Connect, without TLS."""
        return await self.dial(port=port, plain=True)

    async def upgraded(self, request: bytes = UPGRADE) -> Peer:
        """Connect, ask for DERP, and take everything up to ServerKey."""
        peer = await self.dial()
        await peer.say(request)
        if b"Derp-Fast-Start: 1\r\n" not in request:
            assert (await peer.head()).startswith(b"HTTP/1.1 101 ")
        assert await peer.take(45) == server_key_frame(self.server_key)
        return peer

    def client_info(
        self, private: PrivateKey, info: ClientInfo | bytes, nonce: bytes | None = None
    ) -> bytes:
        """Write ClientInfo; `info` may be any JSON."""
        nonce = nonce or free_nonce()
        if isinstance(info, ClientInfo):
            return client_info_frame(info, private, self.server_key, nonce)
        sealed = private.seal(self.server_key, info, nonce)
        return encode_frame(FrameType.CLIENT_INFO, private.public + sealed)

    async def offered(
        self, info: ClientInfo | bytes, private: PrivateKey | None = None
    ) -> Peer:
        """Connect and say ClientInfo; whether that was enough is not awaited."""
        peer = await self.upgraded(FAST_START)
        await peer.say(self.client_info(private or new_key(), info))
        return peer

    async def accepts(
        self, info: ClientInfo | bytes, private: PrivateKey | None = None
    ) -> bool:
        """Whether a client that says this is let in; if not, it is not told a word."""
        private = private or new_key()
        peer = await self.offered(info, private)
        try:
            kind, payload = await peer.frame()
        except (asyncio.IncompleteReadError, ConnectionError):
            return False
        assert kind == FrameType.SERVER_INFO
        open_server_info(payload, private, self.server_key)
        return True

    async def login(
        self,
        name: str = "",
        *,
        mesh: bool = False,
        request: bytes = FAST_START,
        info: ClientInfo | None = None,
    ) -> Client:
        """Log in.

        Args:
            name: Whose key to use; by default, a new one.
            mesh: Prove the mesh key.
            request: The HTTP request.
            info: What to say, instead of what a usual client says.
        """
        private = private_key(name) if name else new_key()
        if info is None:
            info = ClientInfo(self.mesh_key if mesh else None, can_ack_pings=not mesh)
        peer = await self.upgraded(request)
        await peer.say(self.client_info(private, info))
        kind, payload = await peer.frame()
        assert kind == FrameType.SERVER_INFO
        assert open_server_info(payload, private, self.server_key) == {"version": 2}
        return Client(peer, private)

    async def ask(self, request: bytes, *, port: int = 0) -> Answer:
        """Ask for something by HTTP, and read the answer."""
        peer = await (self.dial_plain(port) if port else self.dial())
        await peer.say(request)
        answer = await read_answer(peer, head_only=request.startswith(b"HEAD "))
        peer.leave()
        return answer

    @property
    def switching(self) -> bytes:
        """The answer to an upgrade. Source: protocol.md 2.6, observed at derper."""
        return (
            b"HTTP/1.1 101 Switching Protocols\r\n"
            b"Upgrade: DERP\r\n"
            b"Connection: Upgrade\r\n"
            b"Derp-Version: 2\r\n"
            b"Derp-Public-Key: " + untyped_text(self.server_key).encode() + b"\r\n\r\n"
        )

    async def close(self) -> None:
        """Have every connection end."""
        for peer in self.peers:
            peer.leave()
        for peer in self.peers:
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                await peer.writer.wait_closed()


async def read_answer(peer: Peer, *, head_only: bool = False) -> Answer:
    """Read one HTTP answer."""
    status, headers = parse_answer(await peer.head())
    size = 0 if head_only else int(headers.get("content-length", "0"))
    return Answer(status, headers, await peer.take(size))


def free_nonce() -> bytes:
    """Make a nonce that was never used."""
    return os.urandom(NONCE_SIZE)


def new_key() -> PrivateKey:
    """Make a key that nobody has."""
    return PrivateKey.from_seed(os.urandom(32))


@contextlib.contextmanager
def untraced() -> Iterator[None]:
    """Measure what code costs without those who count its lines."""
    before = sys.gettrace()
    sys.settrace(None)
    try:
        yield
    finally:
        sys.settrace(before)


def http(method: str, target: str, *headers: str) -> bytes:
    """Write a request."""
    lines = [f"{method} {target} HTTP/1.1", "Host: x", *headers]
    return "\r\n".join([*lines, "", ""]).encode()


def packets(frames: list[Frame]) -> list[bytes]:
    """Pick the packets' data from frames, whoever sent them."""
    return [data[32:] for kind, data in frames if kind == FrameType.RECV_PACKET]


def gone(frames: list[Frame]) -> list[tuple[NodeKey, int]]:
    """Pick the PeerGone frames: key and reason."""
    found = [data for kind, data in frames if kind == FrameType.PEER_GONE]
    return [(NodeKey(data[:32]), data[32]) for data in found]


def presents(payloads: list[bytes]) -> set[NodeKey]:
    """Name those that PeerPresent frames announce."""
    return {parse_peer_present(payload).key for payload in payloads}


def header(kind: int, size: int) -> bytes:
    """Write a frame header alone."""
    return struct.pack("!BI", kind, size)


async def until(true: Callable[[], bool], patience: float = PATIENCE) -> None:
    """Wait for something that nobody announces."""
    async with asyncio.timeout(patience):
        while not true():  # noqa: ASYNC110 - that is the point
            await asyncio.sleep(0.005)


def settings(state_dir: Path, *more: str) -> list[str]:
    """Settings of a node on loopback, on ports that the kernel chooses."""
    mesh_key = state_dir / "mesh.key"
    mesh_key.write_text(MESH_KEY.hex())
    mesh_key.chmod(0o600)
    return [
        f"state_dir={state_dir}",
        f"mesh.key_file={mesh_key}",
        "admission.mode=open",
        "derp.listen=['127.0.0.1:0']",
        "http.listen=['127.0.0.1:0']",
        "stun.listen=['127.0.0.1:0']",
        "admin.listen=['127.0.0.1:0']",
        *more,
    ]


def port_of(address: str) -> int:
    """Read the port of `HOST:PORT`."""
    return int(address.rpartition(":")[2])


class Running:
    """A node in this process, until it is told to stop."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self._task = asyncio.get_running_loop().create_task(node.run())

    async def serving(self) -> None:
        """Wait until it serves; it must not end before."""
        await until(lambda: self.node.state == "serving" or self._task.done())
        if self._task.done():
            await self._task

    async def stop(self) -> None:
        """Stop it at once, and see that it stopped well."""
        if not self._task.done():
            self.node.stop()
            self.node.stop()
        async with asyncio.timeout(PATIENCE):
            await self._task


def place_of(node: Node) -> Place:
    """See a node from outside."""
    listeners = node.listeners()
    ports = [
        port_of(listeners[kind][0]) if listeners[kind] else 0
        for kind in ("derp", "http", "stun")
    ]
    tls = node.config.tls_mode != "off"
    return Place(*ports, node.server_key, tls=tls)


@contextlib.asynccontextmanager
async def running(state_dir: Path, *more: str) -> AsyncIterator[tuple[Node, Place]]:
    """Run a node until the block ends."""
    node = Node(load_config(None, {}, settings(state_dir, *more)))
    runs = Running(node)
    try:
        await runs.serving()
        place = place_of(node)
        try:
            yield node, place
        finally:
            await place.close()
    finally:
        await runs.stop()
