"""The other end of a connection: a socket, in the clear or over TLS."""

import _ssl
import asyncio
import socket
import ssl
import struct
from collections import deque

from derpnode.plane.contract import ConnectionId, Endpoint
from derpnode.wire.frames import MAX_CLIENT_FRAME, FrameDecoder
from tests.node.plane.frames import FrameRead, ping, pong
from tests.node.plane.recorder import PATIENCE


_READ_SIZE = 256 * 1024
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: on, no time


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
        """Go over to TLS.

        Raises:
            OSError: The plane refused; `ssl.SSLError` is one.
        """
        tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=sni)
        while True:
            try:
                tls.do_handshake()
            except ssl.SSLWantReadError:
                await self.send(self._outgoing.read())
                self._incoming.write(await self._take() or self._cut())
            else:
                await self.send(self._outgoing.read())
                self.tls = tls
                return

    def hello(self, context: ssl.SSLContext) -> bytes:
        """Begin a handshake; give its first flight and do not send it."""
        tls = context.wrap_bio(self._incoming, self._outgoing)
        try:
            tls.do_handshake()
        except ssl.SSLWantReadError:
            return self._outgoing.read()
        raise AssertionError

    @property
    def chain(self) -> list[bytes]:
        """The certificates that the plane sent, DER."""
        assert self.tls is not None
        sent = self.tls._sslobj.get_unverified_chain()
        return [one.public_bytes(_ssl.ENCODING_DER) for one in sent]

    def _cut(self) -> bytes:
        message = "closed in the middle of a handshake"
        raise ConnectionResetError(message)

    # Writing.

    def seal(self, data: bytes) -> bytes:
        """Make of data what goes over the wire."""
        if self.tls is None:
            return data
        self.tls.write(data)
        return self._outgoing.read()

    def push(self, data: bytes) -> None:
        """Send before the loop turns again; the kernel must take it all."""
        sealed = self.seal(data)
        assert self.sock.send(sealed) == len(sealed)

    async def send(self, data: bytes) -> None:
        """Send, however long it takes."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(PATIENCE):
            await loop.sock_sendall(self.sock, self.seal(data))

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
        data = bytearray()
        try:
            while more := await self.receive():
                data += more
        except ConnectionError:
            pass
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
