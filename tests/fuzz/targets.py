"""What is fuzzed: each target takes bytes, and ends well or with an error of its own.

Everything that a target lets through is a finding: an exception that nobody documented,
an answer that breaks a promise, or a difference between two ways to say the same.
"""

import contextlib
import ipaddress
import select
import socket
import zlib
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar, cast
from unittest import mock

from derpnode.config import InvalidConfig, NodeConfig, read_config
from derpnode.errors import ConfigError
from derpnode.plane.contract import (
    ConnectionId,
    Counters,
    Endpoint,
    Event,
    Flags,
    ListenerId,
    PlaneLimits,
)
from derpnode.plane.python.connection import Connection
from derpnode.plane.python.outbox import Outbox
from derpnode.plane.python.packets import SLACK, Router, Violation
from derpnode.server import logins
from derpnode.server.admission.keyfile import read_keys
from derpnode.server.admission.tailscaled import Tailscaled
from derpnode.server.admission.url import Url
from derpnode.server.admission.verdict import Verdict
from derpnode.server.answers import Answer, Site, port80_answer, relay_answer, render
from derpnode.server.head import BadRequest, head_size, parse_head
from derpnode.wire.errors import (
    BadHandshake,
    BadPayload,
    FrameTooLarge,
    FrameTooShort,
)
from derpnode.wire.frames import HEADER_SIZE, FrameDecoder, FrameType, encode_frame
from derpnode.wire.handshake import ClientInfo, Login, open_client_info
from derpnode.wire.keys import NodeKey
from derpnode.wire.payloads import valid_app_name
from derpnode.wire.stun import (
    binding_response,
    parse_binding_request,
    parse_binding_response,
)
from tests.fuzz import maps, seeds
from tests.node.server.desk import Desk, private_key


Target = Callable[[bytes], None]
T = TypeVar("T")

SERVER, CLIENT = private_key("server"), private_key("client")
NONCE = bytes(24)


# HTTP heads.


def head(data: bytes) -> None:
    """Read a head, whole and byte by byte, and answer it on both ports."""
    whole = _head_size(data)
    for end in range(1, min(len(data), 400)):
        part = _head_size(data[:end])
        if part:  # what is refused early is refused late, what is whole stays whole
            assert part == whole, (part, whole, end)
            break
    if whole > 0:
        _answer(data[:whole])


def _head_size(data: bytes) -> int:
    """Give the size of a head, 0 if more must come, -1 if it is refused."""
    try:
        return head_size(data)
    except BadRequest:
        return -1


def _answer(data: bytes) -> None:
    status = 400
    try:
        request = parse_head(data)
    except BadRequest as exc:
        status = exc.status
        return
    finally:
        assert status in {400, 414, 431, 501}
    site = Site(home="default")
    for answer in (relay_answer(site, request), port80_answer(site, request)):
        if isinstance(answer, Answer):
            said = render(request, answer, 0.0)
            lines = said.split(b"\r\n\r\n", 1)[0].split(b"\r\n")
            assert len(lines) <= 4 + len(answer.headers)
            assert b"\n" not in b"".join(lines)


# Guests: HTTP, WebSocket and the login, up to a client inside a WebSocket.


def _opened_box(payload: bytes, _private: object) -> Login:
    """Take a ClientInfo that is not sealed: fuzzers cannot seal."""
    sealed = CLIENT.seal(SERVER.public, payload[56:], NONCE)
    login = open_client_info(CLIENT.public + sealed, SERVER)
    return Login(NodeKey(payload[:32]), login.info, payload[32:56], login.box)


def front(data: bytes) -> None:
    """Say it to the public port, in pieces; then let time go by, and the relay talk."""
    piece, data = (data[0] or 256, data[1:]) if data else (1, b"")
    with mock.patch.object(logins, "open_client_info", _opened_box):
        desk = Desk(Site(home="default"))
        desk.admission.seen = None if piece % 2 else desk.admission.verdict
        guest = desk.open(tls="1.3" if piece % 3 else None)
        for at in range(0, len(data), piece):
            if guest in desk.plane.closed:
                break  # the plane gives us nothing of a connection that we closed
            desk.say(guest, data[at : at + piece])
        while desk.waiting:
            _finished(desk.waiting.pop(0))
        desk.switchboard.send(guest, b"\x06\0\0\0\0")
        desk.now += 60
        desk.front.tick()
        desk.switchboard.tick()
        consumed = desk.plane.consumed.get(guest, 0)
        assert consumed <= len(data)
        desk.leave(guest)
        assert not desk.front.guests
        assert not list(desk.relay.clients())


def _finished(job: Coroutine[None, None, T]) -> T:
    """Run a coroutine that waits for nothing."""
    try:
        job.send(None)
    except StopIteration as exc:
        return cast("T", exc.value)
    raise AssertionError(job)


# Frames: through the router, in one piece and in several, beside a model of it.


class Sink:
    """A transport that takes everything."""

    unsent = b""

    def __init__(self) -> None:
        self.taken = bytearray()

    def write(self, data: bytes | bytearray) -> None:
        self.taken += data


class Relay:
    """A router between a sender and its receivers, without sockets."""

    def __init__(self, flags: Flags) -> None:
        self.events: list[Event] = []
        self.counters = Counters()
        self.outbox = Outbox(
            self.counters,
            self.events,
            PlaneLimits(),
            watch=lambda *_: None,
            close=lambda *_: None,
        )
        self.router = Router(self.counters, self.events, self.outbox)
        self.connections = [self._connection(number) for number in range(4)]
        self.sender = self.connections[0]
        self.sender.mark(flags)
        for connection in self.connections[:2]:
            self.router.clients[cast("NodeKey", connection.key)] = connection
        self.router.links[cast("NodeKey", self.connections[2].key)] = self.connections[
            2
        ]
        self.router.above[cast("NodeKey", self.connections[3].key)] = self.connections[
            3
        ]

    def _connection(self, number: int) -> Connection:
        with socket.socket() as sock:
            connection = Connection(
                ConnectionId(number),
                sock,
                Sink(),  # type: ignore[arg-type]
                listener=ListenerId(1),
                peer=Endpoint("127.0.0.1", number),
                source=b"",
            )
        connection.key = NodeKey(bytes([number]) * 32)
        connection.relayed = True
        connection.interest = select.EPOLLIN
        return connection

    def feed(self, *pieces: bytes) -> str | None:
        """Send pieces of a stream; say why the connection ended, if it did."""
        rest = b""
        for piece in pieces:
            rest += piece
            while True:
                buffer = bytearray(rest + bytes(SLACK))
                self.sender.held = False
                try:
                    done = self.router.frames(self.sender, buffer, len(rest))
                except Violation as exc:
                    self.outbox.flush_all()
                    return str(exc)
                assert 0 <= done <= len(rest)
                rest = rest[done:]
                if not self.sender.held:
                    break
            assert len(rest) < HEADER_SIZE + 65_600
        self.outbox.flush_all()
        return None

    def outcome(self) -> tuple[object, ...]:
        """What came of it, but for how it was cut into writes."""
        counters = self.counters
        taken = [bytes(c.transport.taken) for c in self.connections]  # type: ignore[attr-defined]
        return (
            taken,
            [event for event in self.events if type(event).__name__ != "Activity"],
            counters.dropped_packets,
            counters.dropped_bytes,
            (counters.bytes_received, counters.bytes_sent, counters.pings),
        )


def frames(data: bytes) -> None:
    """Send it whole, in pieces and byte by byte: nothing may depend on it."""
    flags, size = (Flags(data[0] & 3), data[1] % 64 + 1) if len(data) > 1 else (0, 1)
    stream = data[2:]
    outcomes = []
    for step in (len(stream) or 1, size):
        relay = Relay(Flags(flags))
        pieces = [stream[at : at + step] for at in range(0, len(stream), step)]
        outcomes.append((relay.feed(*pieces), relay.outcome()))
        for taken in relay.outcome()[0]:  # type: ignore[attr-defined]
            decoder = FrameDecoder(max_payload=65_700)
            decoder.feed(taken)
            list(decoder)
            assert decoder.buffered == 0
    assert outcomes[0] == outcomes[1]


# ClientInfo.


def client_info(data: bytes) -> None:
    """Open a login that says this, and the same bytes as a sealed one."""
    sealed = CLIENT.seal(SERVER.public, data, NONCE)
    with contextlib.suppress(BadHandshake):
        info = open_client_info(CLIENT.public + sealed, SERVER).info
        assert isinstance(info, ClientInfo)
        assert valid_app_name(info.app_name)
        assert info.mesh_key is None or len(info.mesh_key) == 32
        assert -(2**63) <= info.version < 2**63
        assert {type(info.can_ack_pings), type(info.is_prober)} == {bool}
    with contextlib.suppress(BadHandshake, FrameTooShort, FrameTooLarge):
        open_client_info(data, SERVER)


# STUN.


def stun(data: bytes) -> None:
    """Judge a datagram; the first byte says whether its checksum is mended first."""
    mend, data = data[:1] < b"\x80", data[1:]
    if mend:
        data = _fingerprinted(data)
    transaction = parse_binding_request(data)
    if transaction is not None:
        assert len(transaction) == 12
        assert b"tailnode" in data
        answer = binding_response(transaction, ipaddress.ip_address("192.0.2.1"), 1)
        assert len(answer) <= 1.2 * len(data)
        assert parse_binding_response(answer)[0] == transaction
    assert parse_binding_request(memoryview(data)) == transaction
    with contextlib.suppress(BadPayload):
        parse_binding_response(data)


def _fingerprinted(data: bytes) -> bytes:
    value = zlib.crc32(data) ^ 0x5354554E
    return data + b"\x80\x28\x00\x04" + value.to_bytes(4)


# What admission hooks answer.


def hook(data: bytes) -> None:
    """Judge it as the answer of a URL, after a redirect or not, and of tailscaled."""
    kind, data = data[:1], data[1:]
    redirects = kind >= b"\x80"
    location, _, body = data.partition(b"\n") if redirects else (b"", b"", data)
    key = CLIENT.public

    async def post(_url: object, _body: bytes) -> tuple[int, str, bytes]:
        nonlocal redirects
        status = 307 if redirects else 200
        redirects = redirects and kind >= b"\xc0"
        return status, location.decode("latin-1"), body

    url = Url("https://hook.example/verify")
    with mock.patch.object(url, "_post", post):
        verdict = _finished(url.ask(key, "192.0.2.1"))
    assert isinstance(verdict, Verdict)
    if verdict.allowed:
        assert b"true" in body
        assert b"allow" in body.lower() or b"\\u" in body
    daemon = Tailscaled(Path("/none"))
    assert isinstance(daemon._judge(key, body), Verdict)


# Configuration.


@dataclass
class TextFile:
    """A file that exists only as bytes."""

    data: bytes

    def read_text(self, encoding: str) -> str:
        """Give what is in it."""
        return self.data.decode(encoding)

    def __str__(self) -> str:
        return "/fuzz"


def config(data: bytes) -> None:
    """Read a configuration file, its lines as overrides, and a file of node keys."""
    file = cast("Path", TextFile(data))
    lines = data.decode("utf-8", "replace").splitlines()[:4]
    for path, environ, overrides in (
        (file, {}, []),
        (None, {f"DERPD_{line[:20]}": line for line in lines}, []),
        (None, {}, lines),
    ):
        problems: Sequence[ConfigError] = ()
        try:
            found = read_config(NodeConfig, path, environ, overrides)
        except InvalidConfig as exc:
            problems = exc.problems
        assert problems or found.admission.sources or found.admission.mode == "open"
        assert all(map(str, problems))
    with contextlib.suppress(ConfigError):
        assert all(len(key) == 32 for key in read_keys(file))


# Seeds.


def _websocket(payload: bytes) -> bytes:
    """Put bytes into a message of a client, with a mask of zeros."""
    return b"\x82\xfe" + len(payload).to_bytes(2) + bytes(4) + payload


def _front_seeds() -> Iterator[bytes]:
    """Go on from heads of clients as they would."""
    heads = seeds.read("head")
    login = CLIENT.public + NONCE + seeds.read("client_info")[0]
    more = encode_frame(FrameType.CLIENT_INFO, login) + seeds.read("frames")[0][:200]
    for number, request in enumerate(heads):
        websocket = b"sec-websocket-key" in request.lower()
        rest = _websocket(more) if websocket else more
        yield bytes([200 + number % 50]) + request + rest
        yield bytes([7 + number % 50]) + request + rest
    for end in (b"\x88\x80\0\0\0\0", b"\x81\x81\0\0\0\0x\x89\x80\0\0\0\0"):
        request = next(one for one in heads if b"sec-websocket-key" in one.lower())
        yield b"\xff" + request + _websocket(more) + end


def _frames_seeds() -> Iterator[bytes]:
    """Have the streams of clients be about keys that are there."""
    for number, stream in enumerate(seeds.read("frames")):
        yield bytes([number % 4, 40]) + stream
    for number in range(5):
        key = bytes([number]) * 32
        disco = bytes.fromhex("5453f09f92ac") + bytes(60)
        send = encode_frame(FrameType.SEND_PACKET, key + disco)
        forward = encode_frame(FrameType.FORWARD_PACKET, key + key + b"data")
        yield bytes([1, 30]) + send * 2 + forward + encode_frame(0x12, bytes(8))


def _tagged(target: str, *tags: bytes) -> Iterator[bytes]:
    for seed in seeds.read(target):
        yield from (tag + seed for tag in tags)


@dataclass(frozen=True)
class Fuzzed:
    """A target, and where to begin."""

    run: Target
    seeds: Sequence[bytes]
    longest: int = 2048
    """Bytes of an input."""


TARGETS = {
    "head": Fuzzed(head, seeds.read("head")),
    "front": Fuzzed(front, list(_front_seeds()), 4096),
    "frames": Fuzzed(frames, list(_frames_seeds()), 4096),
    "client_info": Fuzzed(client_info, seeds.read("client_info"), 4096),
    "stun": Fuzzed(
        stun, [*_tagged("stun", b"\xff"), b"\0" + seeds.read("stun")[0][:-8]]
    ),
    "hook": Fuzzed(hook, list(_tagged("hook", b"\0", b"\x80/next\n", b"\xc0/next\n"))),
    "config": Fuzzed(config, seeds.read("config")),
    "map": Fuzzed(maps.derp_map, [*maps.seeds(), *seeds.read("map")]),
}
