"""A connection to a server: HTTP first, then frames; sans policy."""

import asyncio
import contextlib
import re
from collections import deque
from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple

from derpnode import __version__
from derpnode.client.errors import (
    Ended,
    LoginFailed,
    ServerKeyFailed,
    TlsFailed,
    UpgradeFailed,
    layer,
    reason_of,
)
from derpnode.client.tls import Certificates, ClientTls, check_certificates, presented
from derpnode.errors import ProtocolError
from derpnode.wire import payloads
from derpnode.wire.errors import FrameTooLarge
from derpnode.wire.frames import MAX_CLIENT_FRAME, FrameDecoder, FrameType
from derpnode.wire.handshake import open_server_info, parse_server_key
from derpnode.wire.keys import NodeKey, PrivateKey, node_key_text


_STATUS = re.compile(r"HTTP/1\.[01] ([1-5]\d\d)(?: (.*))?")
_SWITCHING = 101
_BODILESS = frozenset({101, 204, 304})
_MAX_HEAD = 16 * 1024
_MAX_BODY = 1024  # that much of a refusal is quoted by derphttp_client.go
_QUEUE_HIGH = 4 * 1024 * 1024  # bytes of frames that nobody took; then we pause
_QUEUE_LOW = _QUEUE_HIGH // 2
_MAX_RAW = 1024 * 1024
_BODY_TIMEOUT = 1.0
_CLOSE_TIMEOUT = 1.0


class Answer(NamedTuple):
    """An HTTP answer; of its body, the first KiB."""

    status: int
    reason: str
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes = b""


class Stream(asyncio.Protocol):
    """One connection: HTTP until the upgrade, frames after it.

    Answers pings at once by itself, if told to, for as long as it reads: beyond
    4 MiB of frames that nobody took it stops.

    Args:
        where: The server, for errors.
        authority: The HTTP Host header.
    """

    def __init__(self, where: str, authority: str) -> None:
        self.where = where
        self._authority = authority
        self.certificates: Certificates | None = None
        self.answers_pings = False
        self.ideal_node = ""
        self.pongs: dict[bytes, asyncio.Future[None]] = {}
        self._transport = asyncio.Transport()
        self._raw = bytearray()  # until the upgrade
        self._decoder: FrameDecoder | None = None  # from then on
        self._frames: deque[tuple[int, bytes]] = deque()
        self._queued = 0  # bytes in _frames
        self._paused = False
        self._ended: str | None = None
        self._news = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self._closed = asyncio.Event()

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        if isinstance(transport, asyncio.Transport):
            self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Keep bytes, or cut them into frames."""
        self._raw += data
        if self._decoder is not None:
            self._feed(self._decoder)
        elif len(self._raw) > _MAX_RAW:
            self._end(f"more than {_MAX_RAW} bytes where nothing was due")
        self._news.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wake everybody who waits; they find out why it ended."""
        reason = "connection closed by the server" if exc is None else reason_of(exc)
        self._ended = self._ended or reason
        for waiting in self.pongs.values():
            if not waiting.done():
                waiting.set_exception(Ended(self._ended))
        self._news.set()
        self._writable.set()
        self._closed.set()

    def pause_writing(self) -> None:
        """Hold writers back."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """Let writers go on."""
        self._writable.set()

    # The layers, from TLS up.

    def check(self, tls: ClientTls, host: str, now: datetime) -> None:
        """Check the certificates that came; drop the connection if they are wrong.

        Raises:
            TlsFailed: See `check_certificates`.
        """
        connection = self._transport.get_extra_info("ssl_object")
        version = str(connection.version())
        try:
            self.certificates = check_certificates(
                presented(connection), tls, host, version=version, now=now
            )
        except TlsFailed:
            self._transport.abort()
            raise

    def presented(self) -> list[bytes]:
        """Give the certificates that came, DER; none without TLS."""
        return presented(self._transport.get_extra_info("ssl_object"))

    async def get(
        self, path: str, headers: Mapping[str, str], *, within: float = 10.0
    ) -> Answer:
        """Ask for something by HTTP.

        Raises:
            UpgradeFailed: The answer is not HTTP, or there is none.
        """
        hint = "check that a DERP node listens there, and what is in between"
        async with layer(UpgradeFailed, self.where, within, hint):
            await self.write(self._request(path, headers))
            answer = await self._head()
            return answer._replace(body=await self._body(answer))

    async def upgrade(self, hello: bytes = b"", *, within: float = 10.0) -> None:
        """Go over to frames.

        Args:
            hello: ClientInfo: say it at once, a fast start, which gets no
                HTTP answer. Empty asks and waits.
            within: Seconds to wait.

        Raises:
            UpgradeFailed: The answer is another than 101.
        """
        headers = {"Connection": "Upgrade", "Upgrade": "DERP"}
        if self.ideal_node:
            headers["Ideal-Node"] = self.ideal_node
        if hello:
            headers["Derp-Fast-Start"] = "1"
            request = self._request("/derp", headers) + hello
            async with layer(UpgradeFailed, self.where, within, "try again"):
                await self.write(request)
        else:
            answer = await self.get("/derp", headers, within=within)
            if answer.status != _SWITCHING:
                status = f"{answer.status} {answer.reason}".strip()
                reason = f"answered {status}, not {_SWITCHING}"
                quoted = answer.body.decode("utf-8", "replace").strip()
                hint = f"it says {quoted!r}" if quoted else "is it a DERP node?"
                raise UpgradeFailed(self.where, reason, hint)
        self._decoder = FrameDecoder(max_payload=MAX_CLIENT_FRAME)
        self._feed(self._decoder)

    async def server_key(self, *, within: float = 10.0) -> NodeKey:
        """Learn who the server is; it must agree with its meta certificate.

        Raises:
            ServerKeyFailed: It did not say, or two different things.
        """
        value, hint = self.where, "check that it is a DERP node"
        async with layer(ServerKeyFailed, value, within, hint):
            kind, payload = await self.frame()
        if kind != FrameType.SERVER_KEY:
            reason = f"the first frame is {kind:#04x}, not {FrameType.SERVER_KEY:#04x}"
            raise ServerKeyFailed(value, reason, hint)
        try:
            key = parse_server_key(payload)
        except ProtocolError as exc:
            raise ServerKeyFailed(value, str(exc), hint) from exc
        meta = self.certificates.meta_key if self.certificates else None
        if meta not in (None, key):
            hint = "one TLS end must serve one node, not balance between several"
            reason = "its key is not the one in its meta certificate"
            raise ServerKeyFailed(value, reason, hint)
        return key

    async def login(
        self,
        private: PrivateKey,
        server_key: NodeKey,
        hello: bytes,
        *,
        within: float = 10.0,
    ) -> dict[str, object]:
        """Say who we are, wait until we can be reached; give what the server says.

        Args:
            private: Who we are.
            server_key: From `server_key`.
            hello: From `hello`; empty if `upgrade` said it.
            within: Seconds to wait for ServerInfo.

        Raises:
            LoginFailed: The server did not confirm.
        """
        value = node_key_text(private.public)
        hint = "see whether the node's admission knows this key"
        async with layer(LoginFailed, value, within, hint):
            if hello:
                await self.write(hello)
            kind, payload = await self.frame()
            while kind != FrameType.SERVER_INFO:  # clients skip what is newer
                kind, payload = await self.frame()
        try:
            return open_server_info(payload, private, server_key)
        except ProtocolError as exc:
            raise LoginFailed(value, str(exc), hint) from exc

    # Bytes and frames.

    async def write(self, data: bytes) -> None:
        """Send, once the socket takes it."""
        await self._writable.wait()
        if self._ended is not None:
            raise Ended(self._ended)
        self._transport.write(data)

    async def frame(self) -> tuple[int, bytes]:
        """Wait for the next frame that is not answered here."""
        while not self._frames:
            await self._more()
        kind, payload = self._frames.popleft()
        self._queued -= len(payload)
        if self._paused and self._queued < _QUEUE_LOW:
            self._paused = False
            self._transport.resume_reading()
        return kind, payload

    async def close(self) -> None:
        """End the connection; what was written leaves first, if it can."""
        self._transport.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_TIMEOUT):
                await self._closed.wait()
        self._transport.abort()

    def _request(self, path: str, headers: Mapping[str, str]) -> bytes:
        ours = {"Host": self._authority, "User-Agent": f"derpmesh/{__version__}"}
        lines = (
            f"{name}: {value}\r\n" for name, value in (ours | dict(headers)).items()
        )
        return f"GET {path} HTTP/1.1\r\n{''.join(lines)}\r\n".encode()

    async def _head(self) -> Answer:
        while (end := self._raw.find(b"\r\n\r\n")) < 0:
            if len(self._raw) > _MAX_HEAD:
                raise Ended(reason=f"an HTTP head of more than {_MAX_HEAD} bytes")
            await self._more()
        status, *lines = self._raw[:end].decode("latin-1").split("\r\n")
        del self._raw[: end + 4]
        match = _STATUS.fullmatch(status)
        if match is None:
            raise Ended(reason="the answer is not HTTP/1.1")
        pairs = (line.partition(":") for line in lines)
        headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
        return Answer(int(match[1]), match[2] or "", headers)

    async def _body(self, answer: Answer) -> bytes:
        size = answer.headers.get("content-length", "")
        due = min(int(size), _MAX_BODY) if size.isdecimal() else _MAX_BODY
        if answer.status in _BODILESS:
            return b""
        with contextlib.suppress(Ended, TimeoutError):
            async with asyncio.timeout(_BODY_TIMEOUT):  # it may have no length
                while len(self._raw) < due:
                    await self._more()
        return bytes(self._raw[:due])

    async def _more(self) -> None:
        if self._ended is not None:
            raise Ended(self._ended)
        self._news.clear()
        await self._news.wait()

    def _feed(self, decoder: FrameDecoder) -> None:
        decoder.feed(bytes(self._raw))
        self._raw.clear()
        try:
            for kind, payload in decoder:
                self._take(kind, payload)
        except FrameTooLarge as exc:
            http = exc.kind == ord("H")  # "HTTP/1.1 …", after a fast start
            self._end("answered in HTTP, not in frames" if http else str(exc))

    def _end(self, reason: str) -> None:
        self._ended = reason
        self._transport.abort()

    def _take(self, kind: int, payload: bytes) -> None:
        """Answer a ping, hand out a pong, keep everything else."""
        waiting = self.pongs.get(payload) if kind == FrameType.PONG else None
        if waiting is not None and not waiting.done():
            waiting.set_result(None)
        elif kind == FrameType.PING and self.answers_pings:
            with contextlib.suppress(ProtocolError):  # too short
                self._transport.write(payloads.pong(payload))
        else:
            self._frames.append((kind, payload))
            self._queued += len(payload)
            if self._queued > _QUEUE_HIGH and not self._paused:
                self._paused = True
                self._transport.pause_reading()
