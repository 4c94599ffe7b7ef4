"""What is inside the frames that follow the handshake, both ways.

Builders give whole frames, ready to send; parsers take a payload.
Source: tailscale ``derp/derp.go``, the comments on ``FrameType``.
"""

import struct
from enum import IntEnum, IntFlag
from typing import Final, NamedTuple

from derpnode.wire.addresses import ADDRESS_SIZE, IPAddress, from_wire, to_wire
from derpnode.wire.errors import FrameTooShort
from derpnode.wire.frames import PING_SIZE, FrameType, encode_frame
from derpnode.wire.keys import KEY_SIZE, ZERO_KEY, NodeKey


KEEP_ALIVE: Final = encode_frame(FrameType.KEEP_ALIVE, b"")
WATCH_CONNS: Final = encode_frame(FrameType.WATCH_CONNS, b"")

MAX_APP_NAME: Final = 32
"""Bytes of application name. Source: ``derp/derp_client.go``, ``ValidAppName``."""

_ENDPOINT = struct.Struct(f"!{ADDRESS_SIZE}sH")
_RESTARTING = struct.Struct("!II")
_MAX_MS = 0xFFFF_FFFF


class GoneReason(IntEnum):
    """Why a peer cannot be reached here. Source: ``PeerGoneReasonType``."""

    DISCONNECTED = 0x00
    """It was here and left."""
    NOT_HERE = 0x01
    """It is not known here."""


class PresentFlags(IntFlag):
    """What a watcher learns of a peer. Source: ``PeerPresentFlags``."""

    REGULAR = 1
    """None of the others; it is never set beside one."""
    MESH_PEER = 2
    """It proved the mesh key."""
    PROBER = 4
    """Its ClientInfo says that it only measures."""
    NOT_IDEAL = 8
    """It would rather be on another node of the region."""


class Present(NamedTuple):
    """One connection, as announced to watchers."""

    key: NodeKey
    ip: IPAddress | None = None
    """Where it comes from; None if unknown. IPv4 is never v4-mapped here."""
    port: int = 0
    flags: PresentFlags = PresentFlags(0)
    """Zero means that an old server sent it."""
    app_name: str = ""
    """What the program calls itself; see `valid_app_name`."""


def valid_app_name(name: str) -> bool:
    """Tell whether a name may go on the wire: 0 to 32 printable ASCII characters.

    Source: tailscale ``derp/derp_client.go``, ``ValidAppName``, since 1.104.
    """
    return len(name) <= MAX_APP_NAME and name.isascii() and name.isprintable()


def peer_gone(key: NodeKey, reason: GoneReason) -> bytes:
    """Tell a client or a watcher that ``key`` is not here."""
    return encode_frame(FrameType.PEER_GONE, key + bytes([reason]))


def parse_peer_gone(payload: bytes) -> tuple[NodeKey, int]:
    """Read who is gone and why; reasons may be newer than `GoneReason`.

    Old servers send the key alone, which means that the peer disconnected.

    Raises:
        FrameTooShort: No whole key. Go clients skip the frame.
    """
    key, rest = _leading_key(FrameType.PEER_GONE, payload)
    return key, rest[0] if rest else GoneReason.DISCONNECTED


def peer_present(present: Present) -> bytes:
    """Announce a connection to a watcher, in the layout of 1.104.

    Source: tailscale ``derp/derpserver/derpserver.go``, ``sendPeerPresent``.

    Raises:
        ValueError: The name is not valid; the handshake lets none in.
    """
    key, ip, port, flags, app_name = present
    if not valid_app_name(app_name):
        raise ValueError(app_name)
    name = app_name.encode("ascii")
    return encode_frame(
        FrameType.PEER_PRESENT,
        key + _ENDPOINT.pack(to_wire(ip), port) + bytes([flags, len(name)]) + name,
    )


def parse_peer_present(payload: bytes) -> Present:
    """Read an announcement from a server of any age.

    Whatever is missing at the end has its default: servers added the
    address, the flags and the name one after another. A name that is cut
    short or not valid is dropped, and the rest kept; bytes after it are
    left to the next extension.

    Source: tailscale ``derp/derp_client.go``, ``recvTimeout``.

    Raises:
        FrameTooShort: No whole key. Go clients skip the frame.
    """
    key, rest = _leading_key(FrameType.PEER_PRESENT, payload)
    if len(rest) < _ENDPOINT.size:
        return Present(key)
    packed, port = _ENDPOINT.unpack_from(rest)
    flags, name = rest[_ENDPOINT.size :][:1], rest[_ENDPOINT.size + 1 :]
    return Present(
        key,
        from_wire(packed),
        port,
        PresentFlags(flags[0] if flags else 0),
        _app_name(name),
    )


def _app_name(field: bytes) -> str:
    """Read a length byte and a name; nothing, if that is not what it is."""
    if not field or len(field) - 1 < field[0]:
        return ""
    name = field[1 : 1 + field[0]].decode("latin-1")
    return name if valid_app_name(name) else ""


def health(text: str) -> bytes:
    """Tell a client what is wrong with this node; empty text: nothing.

    The client shows it to its user. Today's Go servers never send it.
    """
    return encode_frame(FrameType.HEALTH, text.encode())


def parse_health(payload: bytes) -> str:
    """Read what is wrong with a node; empty if nothing is."""
    return payload.decode("utf-8", "replace")


def restarting(reconnect_in: float, try_for: float) -> bytes:
    """Tell a client that this node restarts.

    Args:
        reconnect_in: Seconds before the client should come back; clients
            add jitter of their own.
        try_for: Seconds for which it should try before it gives up. Both
            are cut to what the wire can say, 0 to 49 days.
    """
    milliseconds = (
        min(max(round(seconds * 1000), 0), _MAX_MS)
        for seconds in (reconnect_in, try_for)
    )
    return encode_frame(FrameType.RESTARTING, _RESTARTING.pack(*milliseconds))


def parse_restarting(payload: bytes) -> tuple[float, float]:
    """Read the two delays of `restarting`, in seconds.

    Raises:
        FrameTooShort: Fewer than two numbers. Go clients skip the frame.
    """
    if len(payload) < _RESTARTING.size:
        raise FrameTooShort(FrameType.RESTARTING, len(payload), _RESTARTING.size)
    reconnect_in, try_for = _RESTARTING.unpack_from(payload)
    return reconnect_in / 1000, try_for / 1000


def ping(data: bytes) -> bytes:
    """Ask the peer to send the first eight bytes of ``data`` back.

    Raises:
        FrameTooShort: Fewer than eight bytes.
    """
    return encode_frame(FrameType.PING, _echo(FrameType.PING, data))


def pong(data: bytes) -> bytes:
    """Answer a ping, given its payload; only the first eight bytes go back.

    Raises:
        FrameTooShort: Fewer than eight bytes.
    """
    return encode_frame(FrameType.PONG, _echo(FrameType.PONG, data))


def parse_pong(payload: bytes) -> bytes:
    """Read the eight bytes that come back.

    Raises:
        FrameTooShort: Fewer than eight bytes. Go clients skip the frame.
    """
    return _echo(FrameType.PONG, payload)


def _echo(kind: FrameType, data: bytes) -> bytes:
    if len(data) < PING_SIZE:
        raise FrameTooShort(kind, len(data), PING_SIZE)
    return data[:PING_SIZE]


def note_preferred(preferred: bool) -> bytes:
    """Tell a node whether it is the client's home."""
    return encode_frame(FrameType.NOTE_PREFERRED, bytes([preferred]))


def close_peer(key: NodeKey) -> bytes:
    """Ask a mesh node to close all its connections of ``key``."""
    return encode_frame(FrameType.CLOSE_PEER, key)


def send_packet(destination: NodeKey, packet: bytes) -> bytes:
    """Send a packet of at most `frames.MAX_PACKET` bytes to ``destination``."""
    return encode_frame(FrameType.SEND_PACKET, destination + packet)


def recv_packet(source: NodeKey, packet: bytes) -> bytes:
    """Deliver a packet from ``source`` to a client."""
    # Version 1 had no source key, and a zero one still means "version 1":
    # derpserver.go, sendPacket, leaves it out. Only a forward can have it.
    if source == ZERO_KEY:
        return encode_frame(FrameType.RECV_PACKET, packet)
    return encode_frame(FrameType.RECV_PACKET, source + packet)


def parse_recv_packet(payload: bytes) -> tuple[NodeKey, bytes]:
    """Read who sent a packet, and the packet.

    Raises:
        FrameTooShort: No whole key. Go clients skip the frame.
    """
    return _leading_key(FrameType.RECV_PACKET, payload)


def forward_packet(source: NodeKey, destination: NodeKey, packet: bytes) -> bytes:
    """Pass a packet to the mesh node that has ``destination``."""
    return encode_frame(FrameType.FORWARD_PACKET, source + destination + packet)


def _leading_key(kind: FrameType, payload: bytes) -> tuple[NodeKey, bytes]:
    if len(payload) < KEY_SIZE:
        raise FrameTooShort(kind, len(payload), KEY_SIZE)
    return NodeKey(payload[:KEY_SIZE]), payload[KEY_SIZE:]
