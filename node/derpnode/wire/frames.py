"""DERP framing: a type byte, a big-endian uint32 size, then the payload.

Bytes go in, frames come out; nothing here touches a socket or a clock.
Source: tailscale ``derp/derp.go``, ``FrameHeaderLen`` and ``FrameType``.
"""

import struct
from collections.abc import Iterator, Mapping
from enum import IntEnum
from typing import Final

from derpnode.wire.errors import FrameTooLarge, FrameTooShort
from derpnode.wire.keys import KEY_SIZE, NONCE_SIZE


class FrameType(IntEnum):
    """The type byte. All types share one enum so that none is given twice."""

    SERVER_KEY = 0x01  # 8B magic + 32B server key + future bytes
    CLIENT_INFO = 0x02  # 32B client key + 24B nonce + box(JSON)
    SERVER_INFO = 0x03  # 24B nonce + box(JSON)
    SEND_PACKET = 0x04  # 32B destination key + packet
    RECV_PACKET = 0x05  # 32B source key + packet; version 1 had no key
    KEEP_ALIVE = 0x06  # nothing
    NOTE_PREFERRED = 0x07  # 1B, not zero: this node is the client's home
    PEER_GONE = 0x08  # 32B key + 1B reason; old servers send no reason
    PEER_PRESENT = 0x09  # 32B key + 16B IP + 2B port + 1B flags + 1B L + L name
    FORWARD_PACKET = 0x0A  # 32B source key + 32B destination key + packet
    WATCH_CONNS = 0x10  # nothing
    CLOSE_PEER = 0x11  # 32B key
    PING = 0x12  # 8B payload
    PONG = 0x13  # 8B payload of the ping
    HEALTH = 0x14  # UTF-8 text; nothing means healthy
    RESTARTING = 0x15  # 4B ms before reconnecting + 4B ms to keep trying


MAX_PACKET: Final = 65_536
"""Bytes of packet in one frame, keys excluded.

Source: tailscale ``derp/derp.go``, ``MaxPacketSize``.
"""

MAX_SEND: Final = KEY_SIZE + MAX_PACKET
MAX_FORWARD: Final = 2 * KEY_SIZE + MAX_PACKET

NODE_STATE: Final = 0xD0
"""JSON: what a node of ours says of itself, to those who watch it and whom it watches.
A frame of our own: derp.go skips types it does not know, so Go nodes do."""

MAX_UNKNOWN: Final = 65_568
"""Bytes of payload that are skipped when the type is not known.

Source: tailscale ``derp/derpserver/derpserver.go``, ``maxUnknownFrameLen``,
since 1.104; older servers skip any size.
"""

MIN_SERVER_KEY: Final = 40
MAX_SERVER_KEY: Final = 1024
"""Bytes of ServerKey; what follows the key is reserved.

Source: tailscale ``derp/derp_client.go``, ``recvServerKey``.
"""

MIN_CLIENT_INFO: Final = KEY_SIZE + NONCE_SIZE
MAX_CLIENT_INFO: Final = 262_144
"""Bytes of ClientInfo, read from somebody not yet known.

Source: tailscale ``derp/derpserver/derpserver.go``, ``recvClientKey``.
"""

MAX_SERVER_INFO: Final = NONCE_SIZE + 1_048_576
"""Bytes of ServerInfo. Source: ``derp/derp_client.go``, ``parseServerInfo``."""

MAX_CLIENT_FRAME: Final = 1_048_576
"""Bytes of any frame towards a client.

Source: tailscale ``derp/derp_client.go``, ``recvTimeout``.
"""

PING_SIZE: Final = 8
MAX_PING: Final = 1000
"""Bytes of Ping; past the first eight they are reserved.

Source: tailscale ``derp/derpserver/derpserver.go``, ``handleFramePing``.
"""

SERVER_RULES: Final[Mapping[int, tuple[int, int]]] = {
    # type: smallest and largest payload that a server takes
    FrameType.SEND_PACKET: (KEY_SIZE, MAX_SEND),
    FrameType.FORWARD_PACKET: (2 * KEY_SIZE, MAX_FORWARD),
    FrameType.NOTE_PREFERRED: (1, 1),
    FrameType.WATCH_CONNS: (0, 0),
    FrameType.CLOSE_PEER: (KEY_SIZE, KEY_SIZE),
    FrameType.PING: (PING_SIZE, MAX_PING),
}
"""Sizes of the frames that a server acts on. It skips every other type.

Source: tailscale ``derp/derpserver/derpserver.go``, the ``handleFrame…`` methods.
"""

_UNKNOWN_RULE: Final = (0, MAX_UNKNOWN)

NEEDS_MESH: Final[frozenset[int]] = frozenset(
    {FrameType.FORWARD_PACKET, FrameType.WATCH_CONNS, FrameType.CLOSE_PEER}
)
"""Frames that only a peer which proved the mesh key may send."""

HEADER: Final = struct.Struct("!BI")
HEADER_SIZE: Final = HEADER.size

DISCO_MAGIC: Final = bytes.fromhex("5453f09f92ac")  # "TS" and a speech balloon
_MIN_DISCO = 62  # magic + 32B sender key + 24B nonce


def encode_frame(kind: int, payload: bytes) -> bytes:
    """Put a header before a payload. Sizes are the caller's business."""
    return HEADER.pack(kind, len(payload)) + payload


def check_size(kind: int, size: int) -> None:
    """Refuse a frame that a server would not take, by its header alone.

    Call it before waiting for the payload: a peer may claim 4 GiB.

    Args:
        kind: Frame type; unknown ones have a limit too.
        size: Payload length from the header, in bytes.

    Raises:
        FrameTooLarge: Close the connection; what follows cannot be skipped.
        FrameTooShort: The payload could not hold its fixed-size fields.
    """
    minimum, maximum = SERVER_RULES.get(kind, _UNKNOWN_RULE)
    if size > maximum:
        raise FrameTooLarge(kind, size, maximum)
    if size < minimum:
        raise FrameTooShort(kind, size, minimum)


def looks_like_disco(packet: bytes | memoryview) -> bool:
    """Tell whether a packet is path discovery rather than somebody's data.

    Source: tailscale ``disco/disco.go``, ``LooksLikeDiscoWrapper``.
    """
    return len(packet) >= _MIN_DISCO and packet[: len(DISCO_MAGIC)] == DISCO_MAGIC


class FrameDecoder:
    """Cut a byte stream into frames, wherever the network split it.

    Args:
        max_payload: Largest payload to accept, in bytes, header excluded.
    """

    def __init__(self, *, max_payload: int) -> None:
        self.max_payload = max_payload
        # A bytearray drops its front and grows its end in constant time, so
        # that a frame arriving byte by byte does not cost the square of it.
        self._buffer = bytearray()
        self._start = 0  # offset of the first byte not yet yielded

    @property
    def buffered(self) -> int:
        """Bytes fed and not yet yielded."""
        return len(self._buffer) - self._start

    def feed(self, data: bytes) -> None:
        """Append bytes received from the peer; then iterate to get frames."""
        del self._buffer[: self._start]
        self._start = 0
        self._buffer += data

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        """Yield ``(kind, payload)`` for each complete frame, oldest first.

        ``kind`` stays an int: newer peers send types we do not know. Leaving
        the loop early loses nothing; the next one goes on from there.

        Raises:
            FrameTooLarge: A header exceeds ``max_payload``. Frames before it
                have been yielded; the stream cannot be resynchronised.
        """
        buffer = self._buffer
        while len(buffer) - self._start >= HEADER_SIZE:
            kind, size = HEADER.unpack_from(buffer, self._start)
            if size > self.max_payload:
                raise FrameTooLarge(kind, size, self.max_payload)
            body = self._start + HEADER_SIZE
            if len(buffer) - body < size:
                return
            self._start = body + size
            yield kind, bytes(buffer[body : body + size])
