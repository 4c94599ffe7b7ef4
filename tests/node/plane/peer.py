"""The other end of a connection: a socket, in the clear or over TLS."""

import _ssl
import asyncio
import contextlib
import socket
import ssl
import struct
from collections import deque
from collections.abc import Awaitable, Callable

from derpnode.plane.contract import ConnectionId, Endpoint
from derpnode.wire.frames import MAX_CLIENT_FRAME, FrameDecoder
from tests.node.plane.frames import FrameRead, ping, pong
from tests.node.plane.recorder import PATIENCE


_READ_SIZE = 256 * 1024
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: on, no time


async def turn() -> None:
    """Let the loop see what is ready, and act on it, before anybody goes on."""
    await asyncio.sleep(0)
    await asyncio.sleep(0)


class Peer:
    """One connection to a plane, or from it."""

    id: ConnectionId
    """What the plane calls it, once it is open."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.sock.setblocking(False)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.tls: ssl.SSLObject | None = None
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._decoder = FrameDecoder(max_payload=MAX_CLIENT_FRAME)
        self._frames: deque[FrameRead] = deque()

    @classmethod
    def dial(cls, address: Endpoint) -> "Peer":
        """Connect, at once.

        Raises:
            OSError: Nobody listens there.
        """
        family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.connect(address)
        except OSError:
            sock.close()
            raise
        return cls(sock)

    @property
    def local(self) -> Endpoint:
        """This end, as the plane sees it."""
        return Endpoint(*self.sock.getsockname()[:2])

    # TLS.

    async def shake(self, context: ssl.SSLContext, sni: str | None = None) -> None:
        """Go over to TLS, as the side that the context is for.

        Raises:
            OSError: The plane refused; `ssl.SSLError` is one.
        """
        tls = context.wrap_bio(
            self._incoming,
            self._outgoing,
            server_side=context.protocol is ssl.PROTOCOL_TLS_SERVER,
            server_hostname=sni,
        )
        while True:
            try:
                tls.do_handshake()
            except ssl.SSLWantReadError:
                await self.send_raw(self._outgoing.read())
                self._incoming.write(await self._take() or self._cut())
            except ssl.SSLError:
                await self.send_raw(self._outgoing.read())  # the alert
                raise
            else:
                await self.send_raw(self._outgoing.read())
                self.tls = tls
                return

    def flight(self, context: ssl.SSLContext | None = None) -> bytes:
        """Go on with a handshake by hand; give what is to be sent next.

        Args:
            context: Given for the first flight.
        """
        if context is not None:
            self.tls = context.wrap_bio(self._incoming, self._outgoing)
        assert self.tls is not None
        with contextlib.suppress(ssl.SSLWantReadError):
            self.tls.do_handshake()
        return self._outgoing.read()

    async def answer(self) -> None:
        """Take what the plane sent to the last flight."""
        self._incoming.write(await self._take() or self._cut())

    @property
    def chain(self) -> list[bytes]:
        """The certificates that the plane sent, DER."""
        assert self.tls is not None
        sent = self.tls._sslobj.get_unverified_chain()
        return [one.public_bytes(_ssl.ENCODING_DER) for one in sent]

    def _cut(self) -> bytes:
        message = "closed in the middle of a handshake"
        raise ConnectionResetError(message)

    def end_of_tls(self) -> bytes:
        """Give what ends TLS in good order."""
        assert self.tls is not None
        with contextlib.suppress(ssl.SSLWantReadError):
            self.tls.unwrap()
        return self._outgoing.read()

    # Writing.

    def seal(self, data: bytes) -> bytes:
        """Make of data what goes over the wire."""
        if self.tls is None:
            return data
        self.tls.write(data)
        return self._outgoing.read()

    def push(self, data: bytes) -> None:
        """Send before the loop turns again; the kernel must take it all."""
        self.push_raw(self.seal(data))

    def push_raw(self, data: bytes) -> None:
        """The same, of bytes as they go over the wire."""
        assert self.sock.send(data) == len(data)

    async def send(self, data: bytes) -> None:
        """Send, however long it takes."""
        await self.send_raw(self.seal(data))

    async def send_raw(self, data: bytes) -> None:
        """The same, of bytes as they go over the wire."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(PATIENCE):
            await loop.sock_sendall(self.sock, data)

    async def drip(self, data: bytes, size: int = 1) -> None:
        """Send in pieces, each of which the plane is given the time to read alone."""
        for at in range(0, len(data), size):
            await self.send(data[at : at + size])
            await turn()

    # Reading.

    async def _take(self) -> bytes:
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(PATIENCE):
            return await loop.sock_recv(self.sock, _READ_SIZE)

    async def receive(self) -> bytes:
        """Read something; nothing means that the plane ended the stream."""
        while self.tls is not None:
            try:
                return self.tls.read(_READ_SIZE)
            except ssl.SSLWantReadError:
                self._incoming.write(await self._take() or self._cut())
        return await self._take()

    async def exactly(self, size: int) -> bytes:
        """Read so many bytes that are no frames."""
        data = bytearray()
        while len(data) < size:
            data += await self.receive() or self._cut()
        assert len(data) == size
        return bytes(data)

    async def rest(self) -> bytes:
        """Read to the end, which may be a reset."""
        return await self._to_the_end(self.receive)

    async def rest_raw(self) -> bytes:
        """The same, of bytes as they come over the wire."""
        return await self._to_the_end(self._take)

    async def _to_the_end(self, read: Callable[[], Awaitable[bytes]]) -> bytes:
        data = bytearray()
        with contextlib.suppress(ConnectionError):
            while more := await read():
                data += more
        return bytes(data)

    async def frame(self) -> FrameRead:
        """Read one frame."""
        while not self._frames:
            self._decoder.feed(await self.receive() or self._cut())
            self._frames.extend(self._decoder)
        return self._frames.popleft()

    async def frames(self, count: int) -> list[FrameRead]:
        """Read so many frames."""
        return [await self.frame() for _ in range(count)]

    async def before_pong(self, payload: bytes = b"barrier.") -> list[FrameRead]:
        """Ping, and read what comes before the answer.

        When the answer is here, the plane has acted on all that was sent before.
        """
        await self.send(ping(payload))
        found = []
        while (frame := await self.frame()) != pong(payload):
            found.append(frame)
        return found

    # The end.

    def close(self) -> None:
        """End in good order."""
        self.sock.close()

    def reset(self) -> None:
        """End in disorder: what was not sent is lost, and so says the kernel."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.sock.close()
