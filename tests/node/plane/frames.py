"""Frames as peers write them, and as they read them."""

import struct

from derpnode.wire.frames import DISCO_MAGIC, FrameType, encode_frame
from derpnode.wire.keys import NodeKey


FrameRead = tuple[int, bytes]

NOTE_PREFERRED = encode_frame(FrameType.NOTE_PREFERRED, b"\x01")
WATCH_CONNS = encode_frame(FrameType.WATCH_CONNS, b"")
UNKNOWN = encode_frame(0xFE, b"from the future")


def send(to: NodeKey, data: bytes) -> bytes:
    """A packet of a client."""
    return encode_frame(FrameType.SEND_PACKET, to + data)


def forward(source: NodeKey, to: NodeKey, data: bytes) -> bytes:
    """A packet of another node."""
    return encode_frame(FrameType.FORWARD_PACKET, source + to + data)


def ping(payload: bytes) -> bytes:
    """A question that the plane answers."""
    return encode_frame(FrameType.PING, payload)


def header(kind: int, size: int) -> bytes:
    """The beginning of a frame that may never be whole."""
    return struct.pack("!BI", kind, size)


def disco(text: bytes = b"") -> bytes:
    """The smallest packet that looks like path discovery, with a text in it."""
    return (DISCO_MAGIC + text).ljust(62, b".")


def received(source: NodeKey, data: bytes) -> FrameRead:
    """What a receiver reads of a packet."""
    return FrameType.RECV_PACKET, source + data


def forwarded(source: NodeKey, to: NodeKey, data: bytes) -> FrameRead:
    """What another node reads of a packet."""
    return FrameType.FORWARD_PACKET, source + to + data


def pong(payload: bytes) -> FrameRead:
    """The answer to a ping."""
    return FrameType.PONG, payload
