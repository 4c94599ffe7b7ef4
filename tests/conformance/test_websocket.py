"""C22: DERP inside WebSocket messages."""

import asyncio
import os
from collections.abc import Iterable

import pytest
from wsproto.connection import Connection, ConnectionType
from wsproto.events import (
    BytesMessage,
    CloseConnection,
    Event,
    Ping,
    Pong,
    TextMessage,
)

from derpnode.wire.frames import FrameDecoder, FrameType, encode_frame
from derpnode.wire.handshake import ClientInfo, server_key_frame
from derpnode.wire.payloads import WATCH_CONNS, close_peer, ping, pong, send_packet
from tests.conformance.scene import (
    DISCO,
    PATIENCE,
    Frame,
    Peer,
    Place,
    new_key,
    parse_answer,
    presents,
)


KEY = "dGhlIHNhbXBsZSBub25jZQ=="  # RFC 6455, 1.3
ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


def request(*headers: str, method: str = "GET", version: str = "1.1") -> bytes:
    """Ask for a WebSocket."""
    lines = [
        f"{method} /derp HTTP/{version}",
        "Host: x",
        "Upgrade: websocket",
        "Connection: keep-alive, Upgrade",
        "Sec-WebSocket-Version: 13",
        f"Sec-WebSocket-Key: {KEY}",
        "Sec-WebSocket-Protocol: derp",
    ]
    for header in headers:
        name = header.partition(":")[0]
        lines = [line for line in lines if not line.startswith(f"{name}:")]
        lines += [header] if not header.endswith(":") else []
    return "\r\n".join([*lines, "", ""]).encode()


class Socket:
    """A WebSocket client."""

    def __init__(self, place: Place, peer: Peer) -> None:
        self.place = place
        self.peer = peer
        self.private = new_key()
        self.key = self.private.public
        self.messages: list[int] = []
        """Sizes of the messages that came."""

        self._codec = Connection(ConnectionType.CLIENT)
        self._decoder = FrameDecoder(max_payload=1 << 20)
        self._ready: list[Frame] = []

    async def say(self, *events: Event) -> None:
        """Send messages, all in one piece."""
        await self.peer.say(b"".join(self._codec.send(event) for event in events))

    async def frames(self, *frames: bytes) -> None:
        """Send frames, each in a message of its own."""
        await self.say(*(BytesMessage(frame) for frame in frames))

    async def events(self) -> Iterable[Event]:
        """Wait for what comes next."""
        async with asyncio.timeout(PATIENCE):
            data = await self.peer.reader.read(1 << 16)
        self._codec.receive_data(data or None)
        return self._codec.events()

    async def frame(self) -> Frame:
        """Wait for a frame."""
        while not self._ready:
            for event in await self.events():
                assert isinstance(event, BytesMessage), event
                self._note(event)
            self._ready.extend(self._decoder)
        return self._ready.pop(0)

    async def until(self, wanted: int) -> bytes:
        """Wait for a frame of one kind; others are skipped."""
        while True:
            kind, payload = await self.frame()
            if kind == wanted:
                return payload

    async def close_code(self) -> int:
        """Wait for the end; say with which code it came, 1006 if with none."""
        while True:
            for event in await self.events():
                if isinstance(event, CloseConnection):
                    return event.code

    def _note(self, message: BytesMessage) -> None:
        self._decoder.feed(bytes(message.data))
        if not self.messages or self._finished:
            self.messages.append(0)
        self.messages[-1] += len(message.data)
        self._finished = message.message_finished


async def opened(place: Place, *headers: str) -> Socket:
    """Open a WebSocket, as far as ServerKey."""
    peer = await place.dial()
    await peer.say(request(*headers))
    assert parse_answer(await peer.head())[0] == 101
    socket = Socket(place, peer)
    key = server_key_frame(place.server_key)
    assert await socket.frame() == (FrameType.SERVER_KEY, key[5:])
    return socket


async def login(place: Place, info: ClientInfo | None = None) -> Socket:
    """Open a WebSocket and log in."""
    socket = await opened(place)
    await socket.frames(place.client_info(socket.private, info or ClientInfo()))
    assert (await socket.frame())[0] == FrameType.SERVER_INFO
    return socket


@pytest.mark.parametrize(
    ("offered", "echoed"),
    [("derp", "derp"), ("chat, derp", "derp"), ("derpx, DERP", "DERP")],
)
async def test_c22_the_subprotocol_is_echoed(place: Place, offered, echoed):
    """The first token that is `derp` in any case, as the client wrote it."""
    peer = await place.dial()
    await peer.say(request(f"Sec-WebSocket-Protocol: {offered}"))
    status, headers = parse_answer(await peer.head())
    assert (status, headers["sec-websocket-protocol"]) == (101, echoed)
    assert headers["sec-websocket-accept"] == ACCEPT
    assert headers["upgrade"].lower() == "websocket"
    assert "sec-websocket-extensions" not in headers


@pytest.mark.parametrize("offered", ["derpx", "xderp, y"])
async def test_c22_no_token_matches(place: Place, offered):
    """101 without a subprotocol, then the end with 1008. Source: protocol.md 2.8."""
    peer = await place.dial()
    await peer.say(request(f"Sec-WebSocket-Protocol: {offered}"))
    status, headers = parse_answer(await peer.head())
    assert status == 101
    assert "sec-websocket-protocol" not in headers
    assert await Socket(place, peer).close_code() == 1008


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (("Sec-WebSocket-Version: 12",), 400),
        (("Sec-WebSocket-Version:",), 400),
        (("Sec-WebSocket-Key:",), 400),
        (("Sec-WebSocket-Key: c2hvcnQ=",), 400),
        (("Connection: keep-alive",), 426),
        (("Connection:",), 426),
    ],
)
async def test_c22_bad_handshakes(place: Place, headers, status):
    """As RFC 6455 and protocol.md 2.8 have it."""
    answer = await place.ask(request(*headers))
    assert answer.status == status


async def test_c22_bad_methods_and_versions(place: Place):
    """405 and 426. Source: protocol.md 2.8."""
    assert (await place.ask(request(method="POST"))).status == 405
    assert (await place.ask(request(version="1.0"))).status == 426


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "x"])
async def test_c22_any_origin(place: Place, origin):
    """It says nothing about a DERP client."""
    await opened(place, f"Origin: {origin}")


async def test_c22_fast_start_does_not_exist(place: Place):
    """A WebSocket needs its 101."""
    await opened(place, "Derp-Fast-Start: 1")


async def test_c22_text_closes(place: Place):
    """With 1003. Source: protocol.md 2.8."""
    socket = await login(place)
    await socket.say(TextMessage("hello"))
    assert await socket.close_code() == 1003


async def test_c22_messages_have_no_meaning(place: Place):
    """Frames go over messages, and messages over frames."""
    socket = await opened(place)
    stream = place.client_info(socket.private, ClientInfo()) + ping(b"12345678")
    await socket.frames(*(stream[at : at + 7] for at in range(0, len(stream), 7)))
    assert (await socket.frame())[0] == FrameType.SERVER_INFO
    assert await socket.frame() == (FrameType.PONG, b"12345678")
    await socket.frames(ping(b"one else") + ping(b"the next"))
    assert await socket.until(FrameType.PONG)


async def test_c22_packets_both_ways(place: Place):
    """A WebSocket client and one without reach each other, and itself."""
    socket, client = await login(place), await place.login()
    await socket.frames(send_packet(client.key, b"there"))
    assert await client.packet() == (socket.key, b"there")
    await client.send(socket.key, b"and back")
    assert await socket.until(FrameType.RECV_PACKET) == client.key + b"and back"
    await socket.frames(send_packet(socket.key, b"to myself"))
    assert await socket.until(FrameType.RECV_PACKET) == socket.key + b"to myself"


@pytest.mark.parametrize("server", ["ours"])
async def test_c22_no_message_that_go_refuses(place: Place):
    """Unlike derper: a packet of 64 KiB comes in messages below 32,769 bytes."""
    socket, client = await login(place), await place.login()
    data = os.urandom(65_536)
    await client.send(socket.key, data)
    assert await socket.until(FrameType.RECV_PACKET) == client.key + data
    assert max(socket.messages) <= 32_768


async def test_c22_pings_of_the_websocket_are_answered(place: Place):
    """By the WebSocket, not by DERP. Source: protocol.md 2.8."""
    socket = await login(place)
    await socket.say(Ping(b"are you there"))
    (event,) = await socket.events()
    assert event == Pong(bytearray(b"are you there"))


async def test_c22_a_clean_end(place: Place):
    """A close is answered with its code, and the connection ends."""
    socket = await login(place)
    await socket.say(CloseConnection(1000))
    assert await socket.close_code() == 1000
    assert await socket.peer.rest() == b""


async def test_c22_who_leaves_is_gone(place: Place):
    """Those who heard from it are told, as of any client."""
    socket, client = await login(place), await place.login()
    await socket.frames(send_packet(client.key, b"hello"))
    await client.packet()
    socket.peer.leave()
    assert await client.until(FrameType.PEER_GONE) == socket.key + b"\0"


async def test_c22_not_here(place: Place):
    """Path discovery to nobody is answered."""
    socket, nobody = await login(place), new_key().public
    await socket.frames(send_packet(nobody, DISCO))
    assert await socket.until(FrameType.PEER_GONE) == nobody + b"\1"


async def test_c22_the_newest_gets_the_packets(place: Place):
    """Of a key with two connections, whoever spoke last: here and there."""
    socket = await login(place)
    twin = await place.offered(ClientInfo(), socket.private)
    await twin.until(FrameType.SERVER_INFO)
    sender = await place.login()
    await sender.send(socket.key, b"newest")
    assert await twin.until(FrameType.RECV_PACKET) == sender.key + b"newest"
    await socket.frames(pong(b"12345678"), ping(b"I speak."))
    await socket.until(FrameType.PONG)
    await sender.send(socket.key, b"speaker")
    assert await socket.until(FrameType.RECV_PACKET) == sender.key + b"speaker"


async def test_c22_a_mesh_peer(place: Place):
    """It may watch and close; our own nodes never come this way."""
    client = await place.login()
    socket = await login(place, ClientInfo(place.mesh_key))
    await socket.frames(WATCH_CONNS)
    seen = [await socket.until(FrameType.PEER_PRESENT) for _ in range(2)]
    assert {client.key, socket.key} >= presents(seen[:1])
    await socket.frames(close_peer(client.key))
    await client.rest()


@pytest.mark.parametrize(
    "frame",
    [
        encode_frame(FrameType.PING, bytes(7)),
        encode_frame(FrameType.NOTE_PREFERRED, b""),
        WATCH_CONNS,
        close_peer(new_key().public),
        encode_frame(FrameType.FORWARD_PACKET, bytes(70)),
        encode_frame(0x7F, bytes(66_000)),
    ],
    ids=["ping 7", "home 0", "watch", "close", "forward", "unknown too long"],
)
async def test_c22_bad_frames_close(place: Place, frame):
    """As they do outside of a WebSocket."""
    socket = await login(place)
    await socket.frames(frame)
    assert (await socket.peer.rest())[:0] == b""
