"""Servers to talk to in tests: DERP with faults, STUN, and an admin listener."""

import asyncio
import os
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from aiohttp import web

from derpnode.wire import payloads, stun
from derpnode.wire.frames import FrameDecoder, FrameType
from derpnode.wire.handshake import (
    open_client_info,
    server_info_frame,
    server_key_frame,
)
from derpnode.wire.keys import NodeKey, PrivateKey


SERVER = PrivateKey(bytes([0x11]) * 32)
OTHER = PrivateKey(bytes([0x22]) * 32)

SWITCHING = (
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: DERP\r\nConnection: Upgrade\r\n"
    "Derp-Version: 2\r\n\r\n"
)


@dataclass
class DerpStandIn:
    """A DERP server that does what its switches say."""

    key: PrivateKey = SERVER
    greeting: bytes | None = None
    """Sent in place of the answer to `/derp`, and then nothing more."""
    first: bytes | None = None
    """Sent in place of ServerKey."""
    answers: Mapping[str, str] = field(default_factory=dict)
    """Whole HTTP answers by path, in place of the usual ones."""
    extra: bytes = b""
    """Sent before ServerInfo."""
    admits: bool = True
    confirms: bool = True
    pongs: bool = True
    relays: bool = True
    knows: bool = True
    """Whether it stays silent about receivers that it does not know."""
    delay: float = 0.0
    """Seconds that a packet takes."""
    changes_key: bool = False
    """Each connection gets another server key."""

    requests: list[dict[str, str]] = field(default_factory=list)
    frames: list[tuple[int, bytes]] = field(default_factory=list)
    infos: list[object] = field(default_factory=list)
    clients: dict[NodeKey, asyncio.StreamWriter] = field(default_factory=dict)

    async def __call__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Serve one connection."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        path = head[0].split(" ")[1]
        headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
        self.requests.append({"path": path, **headers})
        if path != "/derp":
            writer.write(self._answer(path, headers).encode())
            return
        if self.greeting is not None:
            writer.write(self.greeting)
            await reader.read()
            return
        if "derp-fast-start" not in headers:
            writer.write(SWITCHING.encode())
        await self._derp(reader, writer)

    def _answer(self, path: str, headers: Mapping[str, str]) -> str:
        if path in self.answers:
            return self.answers[path]
        if path == "/generate_204":
            echoed = headers.get("x-tailscale-challenge", "")
            response = f"X-Tailscale-Response: response {echoed}\r\n"
            return f"HTTP/1.1 204 No Content\r\n{response}\r\n"
        return "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"

    async def _derp(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        key = PrivateKey(os.urandom(32)) if self.changes_key else self.key
        writer.write(self.first or server_key_frame(key.public))
        header = await reader.readexactly(5)
        payload = await reader.readexactly(int.from_bytes(header[1:]))
        login = open_client_info(payload, key)
        self.infos.append(login.info)
        if not self.admits:
            return
        if not self.confirms:
            await reader.read()
            return
        self.clients[login.key] = writer
        writer.write(self.extra + server_info_frame(login.box, os.urandom(24)))
        decoder = FrameDecoder(max_payload=1 << 20)
        while data := await reader.read(1 << 16):
            decoder.feed(data)
            for kind, frame in decoder:
                self._frame(login.key, writer, kind, frame)

    def _frame(
        self, key: NodeKey, writer: asyncio.StreamWriter, kind: int, frame: bytes
    ) -> None:
        self.frames.append((kind, frame))
        if kind == FrameType.PING and self.pongs:
            writer.write(payloads.pong(frame))
        elif kind == FrameType.SEND_PACKET and self.relays:
            target = self.clients.get(NodeKey(frame[:32]))
            if target is not None:
                packet = payloads.recv_packet(key, frame[32:])
                asyncio.get_running_loop().call_later(self.delay, target.write, packet)
            elif not self.knows:
                gone = payloads.peer_gone(
                    NodeKey(frame[:32]), payloads.GoneReason.NOT_HERE
                )
                writer.write(gone)

    def say(self, key: NodeKey, *frames: bytes) -> None:
        """Send frames to a client."""
        self.clients[key].write(b"".join(frames))


Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def serving(
    handler: Handler, context: ssl.SSLContext | None = None
) -> AsyncIterator[int]:
    """Run a server; give its port. No connection outlives it."""
    writers: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        gone = asyncio.IncompleteReadError, ConnectionError, ssl.SSLError
        with suppress(*gone):
            await handler(reader, writer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    async with server:
        yield server.sockets[0].getsockname()[1]
        server.close()
        for writer in writers:
            writer.transport.abort()
        await asyncio.sleep(0.01)


class StunStandIn(asyncio.DatagramProtocol):
    """Answers STUN, with junk in front if told to."""

    def __init__(self, *, answers: bool = True, junk: bool = False) -> None:
        self.answers = answers
        self.junk = junk

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        transaction = stun.parse_binding_request(data)
        assert transaction is not None
        if self.junk:
            self.transport.sendto(b"junk", addr)
        if self.answers:
            ip = stun.IPv4Address(addr[0])
            self.transport.sendto(stun.binding_response(transaction, ip, addr[1]), addr)


@asynccontextmanager
async def stunning(standin: StunStandIn) -> AsyncIterator[int]:
    """Run a STUN stand-in; give its port."""
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(
        lambda: standin, local_addr=("127.0.0.1", 0)
    )
    try:
        yield transport.get_extra_info("sockname")[1]
    finally:
        transport.close()


@dataclass
class AdminStandIn:
    """The admin listener of a node, as `/v1` has it."""

    name: str = "900a"
    region: int = 900
    code: str = "demo"
    state: str = "serving"
    reasons: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    entry: dict[str, object] = field(default_factory=dict)
    pinned: bool = True
    server_key: str = f"nodekey:{SERVER.public.hex()}"
    http: list[str] = field(default_factory=list)
    home: int = 2
    hang: bool = False
    raw: dict[str, web.Response] = field(default_factory=dict)
    """Answers by path, in place of the usual ones."""
    tokens: list[str] = field(default_factory=list)
    """What came in the Authorization header."""
    links: list[dict[str, object]] | None = None
    """`/v1/links`; None answers 404, as an older node would."""
    commands: list[str] = field(default_factory=list)
    """What was posted."""
    held: list[str] = field(default_factory=list)
    """Members that it would let go."""
    refusal: str = ""
    """Why it refuses to drain."""
    leaving: list[int] = field(default_factory=list)
    """Clients that are left at each look while it drains; then it is drained."""

    def node(self) -> dict[str, object]:
        """`/v1/node`."""
        entry = {
            "Name": self.name,
            "RegionID": self.region,
            "HostName": "192.0.2.10",
            "IPv4": "192.0.2.10",
            "IPv6": "none",
            **({"CertName": f"sha256-raw:{'ab' * 32}"} if self.pinned else {}),
            "DERPPort": 8443,
            **self.entry,
        }
        return {
            "name": self.name,
            "region": {"id": self.region, "code": self.code, "name": "Demo"},
            "version": "0.1.0",
            "server_key": self.server_key,
            "started_at": "2026-11-24T05:00:00Z",
            "uptime": 7_322.5,
            "state": self.state,
            "ready": self.state == "serving",
            "reasons": self.reasons,
            "notes": self.notes,
            "map_entry": entry,
            "certificate": {
                "mode": "self-signed",
                "not_after": "2036-11-21T00:00:00Z",
                "pin": f"sha256-raw:{'ab' * 32}",
            },
            "listeners": {"derp": ["192.0.2.10:8443"], "http": self.http, "stun": []},
            "admission": {"mode": "open", "sources": []},
            "plane": "python",
            "a_newer_field": 1,
        }

    def status(self) -> dict[str, object]:
        """`/v1/status`."""
        return {
            "node": self.node(),
            "clients": {
                "connections": self.home + 1,
                "keys": self.home + 1,
                "home": self.home,
                "not_ideal": 1,
                "duplicate_keys": 0,
                "mesh": 0,
                "watchers": 0,
            },
            "traffic": {
                "packets_received": 10,
                "packets_sent": 9,
                "bytes_received": 1_234_567,
                "bytes_sent": 1_200,
                "forwarded_in": 0,
                "forwarded_out": 0,
                "dropped": {"queue_head": 3, "unknown_dest": 1},
            },
            "stun": {"success": 17},
            "accepts": {"accepted": 12, "refused": {"rate": 1}},
        }

    def _command(self, request: web.BaseRequest) -> web.Response:
        self.commands.append(request.path_qs)
        if self.refusal:
            return web.Response(status=409, text=f"{self.refusal}\n")
        if request.path == "/v1/region/confirm":
            held, self.held = self.held, []
            return web.json_response({"name": self.name, "let_go": held})
        self.state = "draining" if request.path == "/v1/drain" else "serving"
        return web.json_response({"name": self.name, "state": self.state})

    def _look(self) -> None:
        if self.state == "draining" and self.leaving:
            self.home = self.leaving.pop(0) - 1
        elif self.state == "draining":
            self.home, self.state = -1, "drained"

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        self.tokens.append(request.headers.get("Authorization", ""))
        if request.method == "POST":
            return self._command(request)
        if self.hang:
            await asyncio.sleep(60)
        if request.path in self.raw:
            raw = self.raw[request.path]
            return web.Response(body=raw.body, status=raw.status)
        page = self._page(request.path)
        return web.Response(status=404) if page is None else page

    def _page(self, path: str) -> web.Response | None:
        if path == "/v1/node":
            return web.json_response(self.node())
        if path == "/v1/status":
            if self.commands:
                self._look()
            return web.json_response(self.status())
        if path == "/v1/links" and self.links is not None:
            return web.json_response({"items": self.links})
        if path == "/readyz":
            ready = self.state == "serving"
            text = "\n".join(self.reasons) or "ready"
            return web.Response(text=text, status=200 if ready else 503)
        return None


def link(peer: str, state: str = "up", error: str = "") -> dict[str, object]:
    """Describe one link as a node does."""
    return {
        "peer": peer,
        "state": state,
        "since": 75.0,
        "keys": 3,
        "round_trip": 0.00125 if state == "up" else None,
        "forwarded_packets": 1_000,
        "forwarded_bytes": 1_234_567,
        "error": error,
        "peer_state": "serving",
        "peer_version": "0.1.0",
        "is_member": True,
    }


@asynccontextmanager
async def admin(
    standin: AdminStandIn,
    path: str | None = None,
    context: ssl.SSLContext | None = None,
) -> AsyncIterator[str]:
    """Run an admin stand-in, on a Unix socket or on a port; give its URL."""
    runner = web.ServerRunner(web.Server(standin.answer), shutdown_timeout=0.1)
    await runner.setup()
    try:
        if path is not None:
            await web.UnixSite(runner, path).start()
            yield f"unix:{path}"
        else:
            await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
            port = runner.addresses[0][1]
            yield f"{'https' if context else 'http'}://127.0.0.1:{port}"
    finally:
        await runner.cleanup()
