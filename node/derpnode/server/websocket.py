"""A DERP client inside WebSocket messages. They are few, so Python frames them.

The byte stream is the payloads of binary messages, one after the other; where a
message ends means nothing. Go's library refuses messages above 32,768 bytes, so
ours are smaller.
"""

import base64
import hashlib
import random
from collections.abc import Callable

from wsproto.connection import Connection, ConnectionType
from wsproto.events import (
    BytesMessage,
    CloseConnection,
    Event,
    Ping,
    TextMessage,
)
from wsproto.frame_protocol import CloseReason
from wsproto.utilities import LocalProtocolError, RemoteProtocolError

from derpnode.errors import ProtocolError
from derpnode.plane.contract import KEEPALIVE_GAP, ConnectionId, Endpoint, Flags, Plane
from derpnode.server.answers import WebSocket
from derpnode.wire.frames import (
    MAX_UNKNOWN,
    NEEDS_MESH,
    FrameDecoder,
    FrameType,
    check_size,
)
from derpnode.wire.handshake import Login
from derpnode.wire.keys import KEY_SIZE, NodeKey
from derpnode.wire.payloads import KEEP_ALIVE, pong, recv_packet


MESSAGE = 16 * 1024
"""Bytes of a message that we send, at most."""

LOGIN = 16 * 1024
"""Bytes of a ClientInfo, at most: browsers send a hundred."""

WAITING = 256 * 1024
"""Bytes that may wait for a client that does not read; then packets are dropped."""

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, 1.3


def switching(request: WebSocket) -> bytes:
    """Write the answer that begins a WebSocket. Source: RFC 6455, 4.2.2."""
    digest = hashlib.sha1(  # noqa: S324 - the RFC wants it
        request.accept_key.encode() + _GUID
    ).digest()
    lines = [
        "HTTP/1.1 101 Switching Protocols",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Accept: {base64.b64encode(digest).decode()}",
    ]
    if request.subprotocol is not None:
        lines.append(f"Sec-WebSocket-Protocol: {request.subprotocol}")
    return "\r\n".join([*lines, "", ""]).encode()


class WebSocketSession:
    """One such client.

    Args:
        connection: Its connection, which stays a stream.
        peer: Where it comes from.
        offset: Where in its stream the WebSocket begins.
        plane: Moves its bytes and routes its packets.
        log_in: Takes the payload of ClientInfo.
        logged_in: Called with the login once it is admitted.
        frame: Takes frames that are not packets: (kind, payload).
        spoke: Called for each message of a client that shares its key.
    """

    def __init__(  # noqa: PLR0913 - the seams of one session
        self,
        connection: ConnectionId,
        peer: Endpoint,
        offset: int,
        plane: Plane,
        *,
        log_in: "Callable[[bytes, WebSocketSession], None]",
        logged_in: "Callable[[WebSocketSession, Login, bool], None]",
        frame: Callable[[ConnectionId, int, bytes], None],
        spoke: Callable[[ConnectionId], None],
    ) -> None:
        self.connection = connection
        self._peer = peer
        self._offset = offset
        self._plane = plane
        self._log_in = log_in
        self._logged_in = logged_in
        self._frame = frame
        self._spoke = spoke
        self._socket = Connection(ConnectionType.SERVER)
        self._decoder = FrameDecoder(max_payload=LOGIN)
        self._asked = False
        self._waiting = 0
        self._keepalive_at = 0.0
        self.ready = False
        """Whether it has logged in."""

        self.gone = False
        self.questioned = False
        """Whether it was asked if it lives."""

        self.duplicate = False
        """Whether it shares its key, so that every message counts."""

    @property
    def peer(self) -> Endpoint:
        """Where it comes from."""
        return self._peer

    # Toward the client.

    def send(self, frames: bytes) -> None:
        """Send whole frames, cut into messages that Go accepts."""
        if self.gone:
            return
        out = bytearray()
        for start in range(0, len(frames), MESSAGE):
            out += self._socket.send(BytesMessage(frames[start : start + MESSAGE]))
        self._waiting += len(out)
        self._plane.send(self.connection, bytes(out))

    def packet(self, source: NodeKey, data: bytes) -> bool:
        """Send a packet, unless too much waits already; say whether it went."""
        if self.gone or self._waiting > WAITING:
            return False
        self.send(recv_packet(source, data))
        return True

    def tick(self, now: float) -> None:
        """Send a keepalive when it is time: the plane knows no frames here."""
        if not self.ready or self.gone or now < self._keepalive_at:
            return
        if self._keepalive_at:
            self.send(KEEP_ALIVE)
        self._keepalive_at = now + random.uniform(*KEEPALIVE_GAP)  # noqa: S311

    def drained(self) -> None:
        """Note that everything sent has left."""
        self._waiting = 0

    def close(self, code: CloseReason = CloseReason.NORMAL_CLOSURE) -> None:
        """Say goodbye and close."""
        if not self.gone:
            self.gone = True
            try:
                goodbye = self._socket.send(CloseConnection(code=code))
            except LocalProtocolError:  # it has been said
                goodbye = b""
            self._plane.send(self.connection, goodbye)
            self._plane.close(self.connection, "websocket closed")

    # From the client.

    def received(self, data: bytes) -> None:
        """Act on bytes of the connection."""
        if self.gone:
            return
        self._offset += len(data)
        if self.ready or not self._asked:  # else it is read no further than it may be
            self._plane.consume(self.connection, self._offset)
        try:
            self._socket.receive_data(data)
            for event in self._socket.events():
                self._event(event)
        except RemoteProtocolError:
            self.close(CloseReason.PROTOCOL_ERROR)
        except ProtocolError:
            self.close(CloseReason.POLICY_VIOLATION)

    def _event(self, event: Event) -> None:
        if self.gone:  # whatever followed what ended it
            return
        match event:
            case BytesMessage(data=data):
                self._decoder.feed(bytes(data))
                self._read_frames()
            case TextMessage():
                self.close(CloseReason.UNSUPPORTED_DATA)
            case Ping():
                self._plane.send(self.connection, self._socket.send(event.response()))
            case CloseConnection():
                self.gone = True
                self._plane.send(self.connection, self._socket.send(event.response()))
                self._plane.close(self.connection, "websocket closed")
            case _:
                pass

    def _read_frames(self) -> None:
        if self._asked and not self.ready:
            return  # frames may follow ClientInfo at once; `admit` looks at them
        for kind, payload in self._decoder:
            if self.gone or not self._take(kind, payload):
                return

    def _take(self, kind: int, payload: bytes) -> bool:
        """Act on one frame; say whether the next may be looked at now."""
        if self.ready:
            self._act(kind, payload)
            return True
        if kind != FrameType.CLIENT_INFO:
            self.close(CloseReason.POLICY_VIOLATION)
            return False
        self._asked = True
        self._log_in(payload, self)
        return self.ready

    def admit(self, login: Login, *, mesh: bool) -> None:
        """Let the client in, and go on with what it has sent since."""
        if self.gone:
            return
        self._logged_in(self, login, mesh)
        self.ready = True
        self._decoder.max_payload = MAX_UNKNOWN + KEY_SIZE
        self._plane.consume(self.connection, self._offset)
        self._plane.mark(self.connection, Flags.SETTLED)
        try:
            self._read_frames()
        except ProtocolError:
            self.close(CloseReason.POLICY_VIOLATION)

    def refuse(self, reason: str) -> None:
        """Turn the client away."""
        self.close(CloseReason.POLICY_VIOLATION)

    def _act(self, kind: int, payload: bytes) -> None:
        """Act on a frame of a client that has logged in."""
        check_size(kind, len(payload))
        if self.duplicate or self.questioned:
            self._spoke(self.connection)
        if kind == FrameType.SEND_PACKET:
            target = NodeKey(payload[:KEY_SIZE])
            self._plane.deliver(self.connection, target, payload[KEY_SIZE:])
        elif kind == FrameType.PING:
            self.send(pong(payload[:8]))
        elif kind == FrameType.FORWARD_PACKET:
            # Nodes speak DERP to each other directly; nothing forwards from here.
            self.close(CloseReason.POLICY_VIOLATION)
        elif kind in NEEDS_MESH or kind == FrameType.NOTE_PREFERRED:
            self._frame(self.connection, kind, payload)
